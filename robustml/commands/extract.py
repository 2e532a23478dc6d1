"""`robustml extract victim=<run or URL>`: copy a model by asking it, and measure what the copy is worth."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from robustml.commands.hydra.asked import Count, OfARun
from robustml.commands.hydra.of_a_run import command_on_a_run, take_up
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_PASSED_ON = ("budget", "curve", "transfer_limit", "which", "timeout", "batch_size", "seed", "device", "name")


class Extract(OfARun):
    """What the config must hold."""

    victim: str = ""
    budget: Count = 1
    curve: list[float] = Field(default_factory=list)
    transfer_limit: int | None = None
    timeout: Annotated[float, Field(gt=0)] = 1.0
    batch_size: Count = 1


def extract_run(config: DictConfig) -> None:
    """Build what the config names, and copy the victim."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.extract import extract
    from robustml.workflows.secret import with_secret, without_secret
    from robustml.workflows.settings.building import build

    settings, data, out = prepared(config, None if _is_address(config.victim) else config.victim)
    # What can be repeated draws its noise from the seed: no attacker of ours makes use of that. Endpoints draw another.
    defense = with_secret(settings["defense"], f"measured with seed {settings['seed']}")
    extract(
        settings["victim"],
        build(settings["method"], "method"),
        data,
        build(settings["threat"], "threat"),
        out=out,
        pool=build(settings["pool"], "pool"),
        student=lambda: build(settings["student"], "student"),
        make_defense=None if defense is None else lambda: build(defense, "defense"),
        attack=build(settings["attack"], "attack"),
        settings=without_secret(settings),
        **{name: settings[name] for name in _PASSED_ON},
    )


def take_up_victim() -> None:
    """Record the settings of the victim's run, so that the command line can override them; a URL has none."""
    from robustml.commands.hydra.composing import record

    victim = argument("victim")
    if not _is_address(victim):
        take_up("extract", lambda settings: {"output": f"{str(victim).rstrip('/')}/extractions"})
        return
    if argument("data") is None:
        raise RequestError("victim=<URL> needs data=..., whose test images copy and victim are compared on")
    if argument("threat") is None:
        sys.argv.append("threat=linf")
    record({})
    sys.argv = [sys.argv[0], *map(_quoted, sys.argv[1:])]


def _quoted(word: str) -> str:
    """``victim=http://[::1]:8000`` as Hydra can read it, to whom brackets mean a list."""
    name, _, value = word.partition("=")
    if name != "victim" or not _is_address(value) or value[:1] in "'\"":
        return word
    return "victim='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_address(victim: object) -> bool:
    return "://" in str(victim)


def main() -> None:
    """Restore the settings of the victim's run and compose extract.yaml over them."""
    command_on_a_run(extract_run, "extract", Extract, take_up_victim)


if __name__ == "__main__":
    main()
