"""Train a model, judge the weights that were selected, and leave a run directory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from robustml.data import DataModule
from robustml.errors import RequestError, pasteable
from robustml.files import sweep, write_bytes
from robustml.poisoning import write_plan
from robustml.say import is_first_process, say
from robustml.training import (
    ADVERSARIAL_ACCURACY,
    CLEAN_ACCURACY,
    AtomicCheckpointIO,
    RobustClassifier,
    TrainerData,
    best_and_last,
    try_model,
)
from robustml.training.callbacks import Bars, EpochTable, Verification
from robustml.untrusted import own_files
from robustml.workflows.integrity.auditing import audits
from robustml.workflows.measuring.backdoors import check_shown, inherited, planted_by
from robustml.workflows.measuring.certification import build_certification
from robustml.workflows.poison import poison_as_configured, write_grid
from robustml.workflows.preparing import build_attacks, introduce
from robustml.workflows.reading.records import RECORDS, records_to_train_on
from robustml.workflows.reading.weights import checkpoint_weights, load_weights
from robustml.workflows.run import GRID, LAST, PLAN, RESULTS, WEIGHTS, load_model
from robustml.workflows.settings import read_settings, write_settings
from robustml.workflows.settings.building import build
from robustml.workflows.settings.describing import described
from robustml.workflows.training.completing import close, complete
from robustml.workflows.training.resume import check_resume
from robustml.workflows.training.twin import clean_twin


@audits("trained", into="run", files=(WEIGHTS, RESULTS))
def train(settings: dict[str, Any], data: DataModule, run: Path, *, resume: bool) -> float | None:
    """Train, evaluate the selected model on the test split, write the run directory and its report.

    Args:
        settings: of the run. Objects may stand in them in place of their settings; config.yaml gets those.
        data: set up, and clean; poisoned here where the settings say so.
        run: the run directory.
        resume: go on with what is in `run`; without it a run that is there already is an error.

    Returns:
        What the validation split said of the weights that are kept, by `validation.monitor`; None without one, and in
        all processes but the first.
    """
    recorded = described(settings)
    own_files(run)
    for folder in (run, run / "checkpoints"):
        sweep(folder)  # what a process that was killed here had half written
    module = build_module(settings)
    threat = module.threat
    build_attacks(settings["evaluation"], threat)
    build_certification(settings["evaluation"], threat)
    last, config_file = run / LAST, run / "config.yaml"
    fresh = not config_file.exists()
    if not fresh and not resume and is_first_process():
        again = pasteable("train", f"resume={run}")
        raise RequestError(f"{run} holds a run already: continue it with {again}, or choose another output=")
    records = records_to_train_on(run, data, settings.get("run"), begun=last.is_file())
    poisoning = poison_as_configured(data, settings, run)
    if settings.get("twin") and poisoning is None:
        raise RequestError("twin=true trains a clean twin beside a poisoned run, but there is no poison: choose one")
    older = inherited(settings, run)
    check_shown(older, data)
    if resume and not fresh:
        check_resume(run, recorded, read_settings(run), has_validation=data.val is not None)
    if last.is_file():
        load_weights(module.model, checkpoint_weights(last), last)  # refuses what fit would choke on
    trainer = build_trainer(settings, run, has_validation=data.val is not None, say=partial(say, always=True))
    if data.guard is not None:
        trainer.callbacks.append(Verification(data))  # type: ignore[attr-defined]
    try_model(
        module.model,
        next(iter(data.loader("train", limit=2)))[0],
        data.num_classes,
        smallest=_smallest_batch(data, trainer.world_size),
    )
    introduce(data, threat, settings["model"], module.model)
    if trainer.is_global_zero:
        if not last.is_file():  # else a former version began it without a word on its records
            write_bytes(run / RECORDS, records.to_bytes())
            if alike := records.alike():
                say(f"note:   {alike} of {len(data.test)} test records have an equal one among those to train on")
        write_settings(recorded, config_file)
        if poisoning is not None:
            write_plan(poisoning.plan, run / PLAN)
            write_grid(poisoning.plan, run / GRID)
    for logger in trainer.loggers:
        logger.log_hyperparams({key: value for key, value in recorded.items() if key != "overrides"})
    if settings["compile"]:
        module.model.compile()
    try:
        _fit(trainer, module, data, last)
        twin = clean_twin(settings, train) if settings.get("twin") else None
        own = planted_by(poisoning, twin)
        return complete(trainer, module, data, threat, settings, run, [*own, *older])
    except RequestError:
        if fresh and trainer.is_global_zero and not (run / "metrics.csv").exists():
            config_file.unlink()  # refused before the first epoch ended: there is nothing to continue
            (run / RECORDS).unlink(missing_ok=True)
            (run / PLAN).unlink(missing_ok=True)
            (run / GRID).unlink(missing_ok=True)
        raise
    finally:
        close(trainer.loggers)


def _fit(trainer: pl.Trainer, module: RobustClassifier, data: DataModule, last: Path) -> None:
    """Train, from the last checkpoint on where there is one; the model then is of the type that it was built in.

    Raises:
        RequestError: Lightning refuses what the trainer or a callback asks for.
    """
    floating = (parameter.dtype for parameter in module.model.parameters() if parameter.is_floating_point())
    built = next(floating, torch.float32)
    try:
        checkpoint = str(last) if last.is_file() else None
        trainer.fit(module, datamodule=TrainerData(data), ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise RequestError(" ".join(str(error).split())) from error
    # trainer.precision=bf16-true and the like have changed it, and whoever loads the run gets what the config builds.
    module.to(built)


def _smallest_batch(data: DataModule, world_size: int) -> int:
    """How many images the smallest batch of an epoch has in a process."""
    if data.batch_size < world_size:
        return 2  # no batch at all, which the loader refuses
    count = len(data.trained_on)
    left = count % data.batch_size
    whole = left < world_size or (data.drop_last and count > data.batch_size)
    return (data.batch_size if whole else left) // world_size


def build_module(settings: dict[str, Any]) -> RobustClassifier:
    """The Lightning module; the model's initial weights depend on the seed alone, or are those of `run`, if named."""
    pl.seed_everything(settings["seed"], verbose=False)
    model = build(settings["model"])
    if (start := settings.get("run")) is not None:
        load_weights(model, load_model(start, settings["which"]).state_dict(), Path(start))
    if not any(part.training for part in model.modules()):
        model.train()  # nobody means to train a whole network without batch statistics and dropout
    if settings["channels_last"]:
        model = model.to(memory_format=torch.channels_last)
    return RobustClassifier(
        model,
        objective=build(settings["objective"]),
        threat=build(settings["threat"]),
        optimizer=build(settings["optimizer"]),
        scheduler=build(settings["scheduler"]),
        validation_attack=build(settings["validation"]["attack"]),
        seed=settings["seed"],
    )


def build_trainer(
    settings: dict[str, Any], run: Path, *, has_validation: bool, say: Callable[[str], None] | None
) -> pl.Trainer:
    """The trainer, with checkpoints, the epoch table and whatever callbacks and loggers the config adds."""
    monitors = {"adversarial": ADVERSARIAL_ACCURACY, "clean": CLEAN_ACCURACY}
    chosen = settings["validation"]["monitor"]
    if chosen not in monitors:
        raise RequestError(f"validation.monitor={chosen!r} is unknown; expected adversarial or clean")
    if chosen == "adversarial" and settings["validation"]["attack"] is None:
        raise RequestError("validation.monitor=adversarial needs a validation.attack; set one, or monitor=clean")
    monitor = monitors[chosen] if has_validation else None
    callbacks = [
        *(_callback(name, callback) for name, callback in settings["callbacks"].items()),
        EpochTable(run / "metrics.csv", say),
        best_and_last(run / "checkpoints", monitor),
    ]
    # Lightning's bar counts epochs from 0, so that ours takes its place, unless the config brings one.
    theirs = any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks)
    if not theirs and settings["trainer"].get("enable_progress_bar", True):
        callbacks.append(Bars())
    trainer: pl.Trainer = build(
        settings["trainer"],
        callbacks=callbacks,
        enable_progress_bar=theirs,
        logger=[build(logger) for logger in settings["logger"].values()],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(run),
    )
    return trainer


def _callback(name: str, settings: Any) -> pl.Callback:

    callback = build(settings)
    if not isinstance(callback, pl.Callback):
        raise RequestError(
            f"callbacks.{name} is no callback of Lightning, it has no _target_ of one: choose callbacks={name} where "
            f"that is an option, or leave it out with ~callbacks.{name}"
        )
    if isinstance(callback, pl.callbacks.LearningRateFinder | pl.callbacks.BatchSizeFinder):
        raise RequestError(
            f"callbacks.{name}: {type(callback).__name__} changes what config.yaml says of the run, so that it is not "
            "taken; compare a few values instead: robustml train -m optimizer.lr=0.001,0.01,0.1"
        )
    return callback
