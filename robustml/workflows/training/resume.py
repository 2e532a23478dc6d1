"""Going on with an interrupted training: its settings, at home in its directory, and what of them may change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustml.errors import RequestError, pasteable
from robustml.say import say
from robustml.training import measured_on, read_checkpoint
from robustml.training.callbacks.table import read_table
from robustml.workflows.run import BEST, LAST, offline
from robustml.workflows.settings import leaves, read_settings
from robustml.workflows.settings.trust import trusted

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


# What does not shape the weights, or only by how long training goes on. Anything else would either be overruled by the
# checkpoint without a word, or leave a config.yaml of which only a part of the training is true.
_MAY_CHANGE = (
    *("name", "output", "logger", "evaluation", "twin", "compile", "overrides", "resume", "paper", "backdoor_of"),
    *("data.root", "data.test_limit", "data.eval_batch_size", "data.cache"),
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.min_epochs", "trainer.min_steps"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.profiler"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps"),
    *("trainer.deterministic", "trainer.benchmark", "trainer.detect_anomaly", "trainer.num_sanity_val_steps"),
)
_LENGTH = ("trainer.max_epochs", "trainer.max_steps")
# Callbacks that have a hand in the weights; others watch, log or stop.
_TRAINS = ("EMA", "SWA", "AttackSchedule", "CatastrophicOverfitting", "GradientAccumulationScheduler")


def check_resume(run: Path, settings: Mapping[str, Any], recorded: Mapping[str, Any], *, has_validation: bool) -> None:
    """Look at the files of a run before they are continued, and say what changes.

    Args:
        run: the run directory.
        settings: those that training is to go on with.
        recorded: those that it began with.
        has_validation: whether a validation split chooses best.ckpt.

    Raises:
        RequestError: a file is missing or damaged, or a setting has changed that cannot change on the way.
    """
    table = run / "metrics.csv"
    if not (run / LAST).is_file():
        # One row may be there: it is written just before the first checkpoint.
        if table.is_file() and table.stat().st_size and len(read_table(table)) > 1:
            raise RequestError(f"{run / LAST} is missing, so that there is nothing to go on from; start a new run")
        return
    checkpoint = read_checkpoint(run / LAST)
    epochs = int(checkpoint["epoch"]) + 1
    known = {row["epoch"] for row in read_table(table)}
    if missing := sorted(set(range(1, epochs + 1)) - known):
        raise RequestError(f"{table} is damaged: last.ckpt is of epoch {epochs}, and epoch {missing[0]} has no row")
    if has_validation and _has_best(checkpoint):
        if not (run / BEST).is_file():
            raise RequestError(
                f"{run / BEST} is missing, though a best epoch is on record: put it back, or start a new run; the last "
                f"weights can be judged by {pasteable('evaluate', f'run={run}', 'which=last')}"
            )
        read_checkpoint(run / BEST)
    limit = settings["trainer"].get("max_epochs")
    if limit is not None and 0 <= limit < epochs:
        raise RequestError(f"{run} has {epochs} epochs behind it already: trainer.max_epochs={limit} is over")
    _say_changes(settings, recorded, epochs)


def _has_best(checkpoint: Mapping[str, Any]) -> bool:
    if measured_on(dict(checkpoint)) is not None:
        return True
    return any(isinstance(state, dict) and state.get("best_model_path") for state in checkpoint["callbacks"].values())


def _say_changes(settings: Mapping[str, Any], recorded: Mapping[str, Any], epochs: int) -> None:
    new, old = leaves(settings), leaves(recorded)
    changed = [key for key in sorted({**new, **old}) if new.get(key, _ABSENT) != old.get(key, _ABSENT)]
    refused = [key for key in changed if not _may_change(key, settings, recorded)]
    if refused:
        key = refused[0]
        raise RequestError(
            f"resume= goes on with the training that was begun, and {key} cannot change on the way (recorded "
            f"{old.get(key, _ABSENT)}, asked for {new.get(key, _ABSENT)}): leave it out, or train on from these "
            "weights with robustml finetune run=..."
            + (f" (the same holds for {', '.join(refused[1:4])})" if len(refused) > 1 else "")
        )
    told = [key for key in changed if key not in ("overrides", "resume")]
    for key in told:
        say(f"resumed: after epoch {epochs}, {key} is {new.get(key, _ABSENT)}, not {old.get(key, _ABSENT)} as before")
    if any(key in _LENGTH for key in told) and settings.get("scheduler") is not None:
        say("resumed: from here on the learning rate is that of a run of the new length")


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def _may_change(key: str, settings: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    if key.startswith("callbacks."):
        name = key.split(".")[1]
        found = [(side.get("callbacks") or {}).get(name) or {} for side in (settings, recorded)]
        targets = [str(callback.get("_target_", "")) for callback in found if isinstance(callback, Mapping)]
        return not any(target.rpartition(".")[2] in _TRAINS for target in targets)
    return any(key == free or key.startswith(f"{free}.") for free in _MAY_CHANGE)
