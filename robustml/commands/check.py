"""`robustml check`: try an attack, an objective or a poison, on what every one of its kind has to keep to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError, RunFailed
from robustml.progress import track
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robustml.evaluation.conformance import Finding

__all__ = ["check", "main"]


# Enough for a rate of a hundredth to be some records of each of ten classes.
_RECORDS = 1000


def check(config: DictConfig) -> None:
    """Examine the poison of the config, its objective, or its attack where it has neither, and print a line a property.

    Raises:
        RunFailed: it breaks a property.
    """
    if config.poison is not None:
        _check_poison(config)
        return
    from robustml.calling import refuse_misfit
    from robustml.commands.hydra.composing import plain
    from robustml.evaluation.conformance import check_attack, check_objective
    from robustml.types import Objective
    from robustml.workflows.settings.building import build, plain_target

    settings = plain(config)
    kind = "objective" if settings.get("objective") else "attack"
    threat, tried = build(settings["threat"]), build(settings[kind])
    if kind == "attack" and not callable(tried):
        raise RequestError(f"attack must be callable, got a {type(tried).__name__}")
    if kind == "objective" and not isinstance(tried, Objective):
        raise RequestError(f"objective must have perturb and loss, got a {type(tried).__name__}")
    refuse_misfit(tried, threat)
    name = settings[kind].get("name") or plain_target(settings[kind])
    say(f"checking {name}, threat {threat}")
    findings = (check_attack if kind == "attack" else check_objective)(tried, threat, on_finding=_say)
    bad = [finding.name for finding in findings if finding.bad]
    if bad:
        raise RunFailed(f"{name} breaks {len(bad)} of {len(findings)} properties: {', '.join(bad)}")
    skipped = sum(finding.outcome == "not applicable" for finding in findings)
    kept = f"{name} keeps {len(findings) - skipped} of {len(findings)} properties"
    say(kept + (f", {skipped} do not apply to it" if skipped else ""))


def _check_poison(config: DictConfig) -> None:
    """Plan the poison twice, on a sample of the training part."""
    from robustml.commands.hydra.composing import build_data, plain
    from robustml.poisoning import Poison
    from robustml.poisoning.conformance import promises
    from robustml.workflows.settings.building import build, plain_target

    settings, data = plain(config), build_data(config)
    poison = build(settings["poison"])
    if not isinstance(poison, Poison):
        raise RequestError(f"poison must have a plan(records, *, seed), got a {type(poison).__name__}")
    data.setup()
    records, name = data.train.sample(_RECORDS), plain_target(settings["poison"])
    say(f"checking {name} on {len(records):,} records of {data.name}")
    found = []
    tried = promises(poison, records, seed=settings["seed"], test=data.test.sample(_RECORDS))
    for promise in track(tried, "promises"):
        found.append(promise)
        outcome = "BREAK" if promise.broken else "pass"
        say(f"  {outcome:<7}{promise.name:<31}{promise.broken or ''}".rstrip())
    if bad := [promise.name for promise in found if promise.broken]:
        raise RunFailed(f"{name} breaks {len(bad)} of {len(found)} properties: {', '.join(bad)}")
    say(f"{name} keeps {len(found)} of {len(found)} properties")


def _say(finding: Finding) -> None:
    from robustml.evaluation.conformance import OBJECTIVE_PROPERTIES, PROPERTIES

    outcome = {"pass": "pass", "not applicable": "-"}.get(finding.outcome, finding.outcome.upper())
    width = max(map(len, (*PROPERTIES, *OBJECTIVE_PROPERTIES))) + 2
    say(f"  {outcome:<7}{finding.name:<{width}}{finding.reason}".rstrip())


def _take_up_class(group: str) -> None:
    """Let `attack._target_=my.Attack` stand for an attack of that class, with no other settings than those given."""
    target = argument(f"{group}._target_")
    if target is None or argument(group) is not None:
        return
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(group=group, name="own", node={"_target_": target})
    own = ("++" + word if word.startswith(f"{group}.") else word for word in sys.argv[1:])
    sys.argv = [sys.argv[0], f"{group}=own", *own]


def main() -> None:
    """Compose check.yaml, with the user's own class in it if there is one."""
    for group in ("attack", "poison"):
        _take_up_class(group)
    hydra_command(check, "check")


if __name__ == "__main__":
    main()
