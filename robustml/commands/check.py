"""`robustml check`: try an attack, or an objective, on what every one of its kind has to keep to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError, RunFailed

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robustml.evaluation.conformance import Finding

__all__ = ["check", "main"]


def check(config: DictConfig) -> None:
    """Examine the objective of the config, or its attack where it has none, and print a line a property.

    Raises:
        RunFailed: it breaks a property.
    """
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
    print(f"checking {name}, threat {threat}", flush=True)
    findings = (check_attack if kind == "attack" else check_objective)(tried, threat, on_finding=_say)
    bad = [finding.name for finding in findings if finding.bad]
    if bad:
        raise RunFailed(f"{name} breaks {len(bad)} of {len(findings)} properties: {', '.join(bad)}")
    skipped = sum(finding.outcome == "not applicable" for finding in findings)
    kept = f"{name} keeps {len(findings) - skipped} of {len(findings)} properties"
    print(kept + (f", {skipped} do not apply to it" if skipped else ""))


def _say(finding: Finding) -> None:
    from robustml.evaluation.conformance import OBJECTIVE_PROPERTIES, PROPERTIES

    outcome = {"pass": "pass", "not applicable": "-"}.get(finding.outcome, finding.outcome.upper())
    width = max(map(len, (*PROPERTIES, *OBJECTIVE_PROPERTIES))) + 2
    print(f"  {outcome:<7}{finding.name:<{width}}{finding.reason}".rstrip(), flush=True)


def _take_up_class() -> None:
    """Let `attack._target_=my.Attack` stand for an attack of that class, with no other settings than those given."""
    target = argument("attack._target_")
    if target is None or argument("attack") is not None:
        return
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(group="attack", name="own", node={"_target_": target})
    sys.argv = [sys.argv[0], "attack=own", *("++" + w if w.startswith("attack.") else w for w in sys.argv[1:])]


def main() -> None:
    """Compose check.yaml, with the user's own class in it if there is one."""
    _take_up_class()
    hydra_command(check, "check")


if __name__ == "__main__":
    main()
