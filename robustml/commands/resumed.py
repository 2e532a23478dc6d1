"""The settings with which an interrupted training goes on: as they were recorded, but at home in its run directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from robustml.commands.runs import LAST, offline
from robustml.commands.settings import read_settings
from robustml.commands.trusted import trusted
from robustml.errors import RequestError

__all__ = ["settings_to_resume"]

_NEEDED = ("name", "seed", "data", "model", "threat", "objective", "optimizer", "trainer", "evaluation", "validation")
# What loggers may be told by a config that somebody else may have written.
_LOGGING = frozenset({"_target_", "save_dir", "name", "version", "project", "offline", "log_model", "group", "tags"})
_ONE_NAME = re.compile(r"(?!\.\.?$)[^/\\\0]*")


def settings_to_resume(run: Path) -> dict[str, Any]:
    """What `robustml train resume=<run>` goes on with. Whatever it writes goes below the run, wherever that was moved.

    Raises:
        RequestError: it is no run of `robustml train`, or one that would write, send or fetch what the user cannot have
            meant; not where he trusts it.
    """
    settings = read_settings(run)
    if missing := [key for key in _NEEDED if not isinstance(settings.get(key), dict | str | int)]:
        raise RequestError(f"{run}/config.yaml lacks {', '.join(missing)}: it is no config of robustml train")
    settings.setdefault("callbacks", {})
    settings.setdefault("logger", {})
    home = run.resolve()
    for callback in _entries(settings, "callbacks", run):
        if "folder" in callback:
            name = Path(str(callback["folder"])).name
            callback["folder"] = str(home / ("evaluation" if name in ("", "..") else name))
    for logger in _entries(settings, "logger", run):
        logger["save_dir"] = str(home)
        _check_logger(logger, run)
    output = Path(str(settings.get("output", "outputs")))
    if ".." in output.parts or (output.is_absolute() and not home.is_relative_to(output)):
        output = home.parent.parent  # where the training had put this run, and puts the clean twin
    settings["output"] = str(output)
    if (run / LAST).is_file():
        settings["model"] = offline(settings["model"])
    elif settings["model"].get("pretrained") and trusted() is not True:
        raise RequestError(f"{run} would fetch weights (model.pretrained) to begin anew: trust=true allows it")
    return settings


def _entries(settings: dict[str, Any], group: str, run: Path) -> list[dict[str, Any]]:
    entries = settings[group] or {}
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise RequestError(f"{run}/config.yaml: {group} must hold settings by name")
    return list(entries.values())


def _check_logger(logger: dict[str, Any], run: Path) -> None:
    if trusted() is True:
        return
    beyond = sorted(logger.keys() - _LOGGING)
    sends = "Wandb" in str(logger.get("_target_"))  # whose folders are named by no setting
    names = [] if sends else [str(logger.get(key) or "") for key in ("name", "version")]
    if beyond or not all(_ONE_NAME.fullmatch(name) for name in names):
        raise RequestError(
            f"{run}/config.yaml: a logger is told {beyond[0] if beyond else 'a name that is a path'}, and could write "
            "elsewhere: trust=true allows it"
        )
    if sends and logger.get("offline") is not True:
        raise RequestError(f"{run} would send what it logs to a server (logger offline=false): trust=true allows it")
