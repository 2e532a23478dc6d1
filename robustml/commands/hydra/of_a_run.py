"""How a verb that takes up a run starts: what it restores of that is recorded, and its own config composed over it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import COMPLETION, HELP, argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robustml.workflows.settings.building import Settings


@dataclass(frozen=True)
class Restored:
    """What a verb takes from the config of a run; the rest says how that was trained.

    Args:
        needed: keys that it must have.
        if_there: keys that it may have.
        anew: groups that may be chosen anew.
        key: of the command line, that names the run.
        hint: what else the verb can do.
    """

    needed: Sequence[str]
    if_there: Sequence[str] = ()
    anew: Sequence[str] = ()
    key: str = "run"
    hint: str = ""


RESTORED = {
    "evaluate": Restored(
        ("name", "seed", "data", "model", "threat", "evaluation"),
        ("poison", "balance", "backdoor_of"),
        ("threat", "evaluation"),
        hint=", or a model: robustml evaluate model=wide_resnet checkpoint=<file>",
    ),
    "detect": Restored(
        ("name", "seed", "data", "model", "threat"),
        ("poison", "balance", "backdoor_of"),
        ("data",),
        hint=", or a model: robustml detect model=wide_resnet checkpoint=<file> data=...",
    ),
    "extract": Restored(
        ("name", "seed", "data", "model", "threat"),
        anew=("data", "threat"),
        key="victim",
        hint=", or victim=http://<host>:<port>",
    ),
    "finetune": Restored(
        ("seed", "data", "model", "threat", "attack", "evaluation", "validation"),
        anew=("data", "threat", "attack", "evaluation"),
    ),
    "repair": Restored(("name", "seed", "data", "model", "threat"), ("poison", "balance", "backdoor_of"), ("data",)),
    "shortcuts": Restored(("name", "seed", "data"), ("poison", "balance")),
    "trojan": Restored(("name", "seed", "data", "model", "threat", "evaluation")),
}


def take_up(verb: str, also: Callable[[Settings], Settings] = lambda settings: {}) -> None:
    """Record what `verb` restores of the run that the command line names, so that the rest of the line can override it.

    Args:
        verb: one of the table.
        also: the settings of the run to what is recorded beside, or in place of, what stands in them.

    Raises:
        RequestError: no run is named, or it is none of `robustml train`.
    """
    from robustml.commands.hydra.composing import record

    wanted = RESTORED[verb]
    if (run := argument(wanted.key)) is None:
        line = f"robustml {verb} {wanted.key}=outputs/<name>/<time>"
        raise RequestError(f"{verb} needs a run directory: {line}{wanted.hint}")
    settings = settings_with(Path(run), wanted.needed)
    kept: dict[str, Any] = {key: settings[key] for key in (*wanted.needed, *wanted.if_there) if key in settings}
    record(kept | also(settings), without=[group for group in wanted.anew if argument(group) is not None])


def settings_with(run: Path, needed: Sequence[str], command: str = "train") -> Settings:
    """The settings of a directory that `robustml <command>` wrote.

    Raises:
        RequestError: they lack a key that is needed.
    """
    from robustml.workflows.settings import read_settings

    settings = read_settings(run)
    if missing := [key for key in needed if key not in settings]:
        raise RequestError(f"{run}/config.yaml lacks {', '.join(missing)}: it is no config of robustml {command}")
    return settings


def command_on_a_run(
    task: Callable[[DictConfig], None],
    verb: str,
    asked: type[Asked],
    taking_up: Callable[[], None] | None = None,
) -> None:
    """Take up the run that the command line names, and run `task` on the config of the verb, composed over that."""
    if COMPLETION & set(sys.argv):
        from robustml.commands.hydra.composing import record

        record({})  # completion needs no run, but a config that composes
    elif not HELP & set(sys.argv):
        report_failures(taking_up or (lambda: take_up(verb)))
    hydra_command(task, verb, asked)
