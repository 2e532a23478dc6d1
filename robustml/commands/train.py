"""`robustml train`: train a model from a config, measure it clean and under attack, leave a run directory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.entry import argument, hydra_command
from robustml.commands.words import pasteable
from robustml.errors import RequestError
from robustml.ranks import is_first_process

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from omegaconf import DictConfig

    from robustml.data import DataModule
    from robustml.training import RobustClassifier

__all__ = ["main", "run_training", "train"]


def train(config: DictConfig) -> float | None:
    """Train as the config says, into Hydra's output directory; the validation figure of the weights that are kept."""
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.parts import build_data
    from robustml.commands.quiet import quiet
    from robustml.commands.settings import plain

    quiet()
    begun_with = config.get("run")  # of a finetuning that is resumed
    data = build_data(config, None if begun_with is None else Path(begun_with))
    settings = plain(config) | {"overrides": list(HydraConfig.get().overrides.task)}
    return run_training(settings, data, Path(HydraConfig.get().runtime.output_dir), resume="resume" in config)


def run_training(settings: dict[str, Any], data: DataModule, run: Path, *, resume: bool) -> float | None:
    """Train, evaluate the selected model on the test split, write the run directory and its report.

    Args:
        settings: of the run, as they go into its config.yaml.
        data: set up, and clean; poisoned here where the settings say so.
        run: the run directory.
        resume: go on with what is in `run`; without it a run that is there already is an error.

    Returns:
        What the validation split said of the weights that are kept, by `validation.monitor`; None without one, and in
        all processes but the first.
    """
    from robustml.commands.backdoors import check_shown, inherited, planted_by
    from robustml.commands.certified import build_certification
    from robustml.commands.finish import close, finish
    from robustml.commands.lineage import RECORDS, records_to_train_on
    from robustml.commands.parts import build_attacks, introduce, say
    from robustml.commands.poisoned import poison_as_configured, write_grid
    from robustml.commands.resume import check_resume
    from robustml.commands.runs import GRID, LAST, PLAN, checkpoint_weights, load_weights
    from robustml.commands.settings import build, read_settings, write_settings
    from robustml.commands.twin import clean_twin
    from robustml.files import sweep, write_bytes
    from robustml.poisoning import write_plan
    from robustml.training import try_model
    from robustml.untrusted import own_files

    own_files(run)
    for folder in (run, run / "checkpoints"):
        sweep(folder)  # what a process that was killed here had half written
    module = build_module(settings)
    threat = build(settings["threat"])
    build_attacks(settings["evaluation"])
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
        check_resume(run, settings, read_settings(run), has_validation=data.val is not None)
    if last.is_file():
        load_weights(module.model, checkpoint_weights(last), last)  # refuses what fit would choke on
    trainer = build_trainer(settings, run, has_validation=data.val is not None, say=say)
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
        write_settings(settings, config_file)
        if poisoning is not None:
            write_plan(poisoning.plan, run / PLAN)
            write_grid(poisoning.plan, run / GRID)
    for logger in trainer.loggers:
        logger.log_hyperparams({key: value for key, value in settings.items() if key != "overrides"})
    if settings["compile"]:
        module.model.compile()
    try:
        _fit(trainer, module, data, last)
        twin = clean_twin(settings, run_training) if settings.get("twin") else None
        own = [] if poisoning is None else planted_by(poisoning, twin)
        return finish(trainer, module, data, threat, settings, run, [*own, *older])
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
    import torch
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    floating = (parameter.dtype for parameter in module.model.parameters() if parameter.is_floating_point())
    built = next(floating, torch.float32)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    except MisconfigurationException as error:
        raise RequestError(" ".join(str(error).split())) from error
    # trainer.precision=bf16-true and the like have changed it, and whoever loads the run gets what the config builds.
    module.to(built)


def _smallest_batch(data: DataModule, world_size: int) -> int:
    """How many images the smallest batch of an epoch has in a process."""
    if data.batch_size < world_size:
        return 2  # no batch at all, which the loader refuses
    left = len(data.train) % data.batch_size
    whole = left < world_size or (data.drop_last and len(data.train) > data.batch_size)
    return (data.batch_size if whole else left) // world_size


def build_module(settings: dict[str, Any]) -> RobustClassifier:
    """The Lightning module; the model's initial weights depend on the seed alone, or are those of `run`, if named."""
    import pytorch_lightning as pl

    from robustml.commands.runs import load_model, load_weights
    from robustml.commands.settings import build
    from robustml.training import RobustClassifier

    pl.seed_everything(settings["seed"], verbose=False)
    model = build(settings["model"])
    if (start := settings.get("run")) is not None:
        load_weights(model, load_model(start, settings["which"]).state_dict(), Path(start))
    if not any(part.training for part in model.modules()):
        model.train()  # nobody means to train a whole network without batch statistics and dropout
    if settings["channels_last"]:
        import torch

        model = model.to(memory_format=torch.channels_last)
    return RobustClassifier(
        model,
        objective=build(settings["objective"]),
        optimizer=build(settings["optimizer"]),
        scheduler=build(settings["scheduler"]),
        validation_attack=build(settings["validation"]["attack"]),
        seed=settings["seed"],
    )


def build_trainer(
    settings: dict[str, Any], run: Path, *, has_validation: bool, say: Callable[[str], None] | None
) -> pl.Trainer:
    """The trainer, with checkpoints, the epoch table and whatever callbacks and loggers the config adds."""
    from robustml.commands.settings import build
    from robustml.training import ADVERSARIAL_ACCURACY, CLEAN_ACCURACY, AtomicCheckpointIO, best_and_last
    from robustml.training.callbacks import EpochTable

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
    trainer: pl.Trainer = build(
        settings["trainer"],
        callbacks=callbacks,
        logger=[build(logger) for logger in settings["logger"].values()],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(run),
    )
    return trainer


def _callback(name: str, settings: Any) -> pl.Callback:
    import pytorch_lightning as pl

    from robustml.commands.settings import build

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


def main() -> None:
    """Start a run from train.yaml, or continue the one in `resume=<dir>` from its own config."""
    resume = argument("resume")
    if resume is None:
        hydra_command(train, "train")
        return
    from robustml.commands.entry import report_failures
    from robustml.commands.resumed import settings_to_resume
    from robustml.commands.settings import record

    def take_up() -> None:
        record(settings_to_resume(Path(resume)))

    report_failures(take_up)
    if any(word in ("-m", "--multirun") for word in sys.argv):
        print("error: resume= continues one run; leave out -m", file=sys.stderr)
        sys.exit(2)
    hydra_command(train, "resume")


if __name__ == "__main__":
    main()
