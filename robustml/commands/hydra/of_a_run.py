"""How a verb that takes up a run starts: the run's settings are recorded, and its own config is composed over them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.failures import report_failures
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["command_on_a_run", "settings_of_run"]


def settings_of_run(verb: str, needed: Sequence[str]) -> dict[str, Any]:
    """The settings of the run that `run=<dir>` on the command line names.

    Args:
        verb: for the message.
        needed: keys that they must have.

    Raises:
        RequestError: no run is named, or it is none of `robustml train`.
    """
    run = argument("run")
    if run is None:
        raise RequestError(f"{verb} needs a run directory: robustml {verb} run=outputs/<name>/<time>")
    from robustml.workflows.settings import read_settings

    settings = read_settings(Path(run))
    if missing := [key for key in needed if key not in settings]:
        raise RequestError(f"{run}/config.yaml lacks {', '.join(missing)}: it is no config of robustml train")
    return settings


def command_on_a_run(task: Callable[[DictConfig], None], config_name: str, take_up: Callable[[], None]) -> None:
    """Call `take_up`, which records what is restored of the run, and run `task` on `config_name` composed over that."""
    if any(word in ("--help", "-h") for word in sys.argv):
        from robustml.commands.hydra.composing import record

        record({})  # help needs no run, but a config that composes
    else:
        report_failures(take_up)
    hydra_command(task, config_name)
