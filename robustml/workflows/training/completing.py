"""After training: judge the selected model on the test split and complete the run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from robustml.data import DataModule
from robustml.reporting.sentences import selection_lines
from robustml.results import Cost, SelectedEpoch, Selection
from robustml.say import say
from robustml.training import ADVERSARIAL_ACCURACY, CLEAN_ACCURACY, RobustClassifier, measured_on, read_checkpoint
from robustml.training.callbacks.catastrophic_overfitting import HEALTH
from robustml.training.callbacks.table import read_table
from robustml.types import Threat
from robustml.workflows.measuring.backdoors import Planted, backdoor_figures
from robustml.workflows.measuring.judging import evaluate_as_configured, peak_memory_mb, tell, write_outcome
from robustml.workflows.measuring.training_flags import collapse_flags
from robustml.workflows.reading.weights import checkpoint_weights, describe_model, load_weights, save_weights
from robustml.workflows.run import BEST, LAST, WEIGHTS, weights_of
from robustml.workflows.training.showing import show

_FIGURES = {CLEAN_ACCURACY: "clean_accuracy", ADVERSARIAL_ACCURACY: "adversarial_accuracy"}


def complete(
    trainer: pl.Trainer,
    module: RobustClassifier,
    data: DataModule,
    threat: Threat,
    settings: dict[str, Any],
    run: Path,
    planted: Sequence[Planted] = (),
) -> float | None:
    """Load the best weights, evaluate them as configured, and write weights, results, examples and report.

    Returns:
        The validation figure that the weights were chosen on; None without one, and in all processes but the first.
    """
    best = run / BEST if (run / BEST).is_file() else run / LAST
    if data.val is not None and best == run / LAST:
        say("no validation took place, so that the last weights are the ones that are evaluated")
    trainer.strategy.barrier()
    load_weights(module.model, checkpoint_weights(best), best)
    device = trainer.strategy.root_device
    results = evaluate_as_configured(module.model, data, threat, settings["evaluation"], device)
    if not trainer.is_global_zero:
        return None
    save_weights(module.model, run / WEIGHTS, None if data.guard is None else data.guard.facts.root)
    rows = _epochs(run)
    worst = results.worst_case.robust_accuracy.value if results.attacks else None
    selection = None if data.val is None else _selection(rows, settings["validation"]["monitor"], run / BEST)
    began = settings.get("run")
    origin = None if began is None else weights_of(Path(began), settings["which"])
    written = write_outcome(
        run,
        results,
        data,
        settings,
        device,
        collapse_flags(run / HEALTH),
        command="train",
        model=describe_model(settings["model"], module.model, run / WEIGHTS, origin),
        backdoor=backdoor_figures(planted, module.model, data, settings["evaluation"], device),
        selection=selection,
        cost=_cost(rows, device, worst),
    )
    for logger in trainer.loggers:
        figures = {f"test/{name}": attack.robust_accuracy.value for name, attack in results.attacks.items()}
        figures["test/clean"] = results.clean_accuracy.value
        figures["test/worst_case"] = results.worst_case.robust_accuracy.value
        logger.log_metrics({key: value for key, value in figures.items() if value is not None})
        show(logger, run)
        logger.finalize("success")
    close(trainer.loggers)
    for line in selection_lines(written):
        say(line)
    tell(run)
    return None if selection is None else getattr(selection.best, _FIGURES[selection.monitor])


def close(loggers: Sequence[Logger]) -> None:
    """End the runs of loggers such as wandb's, which would go on into the next job of a multirun."""
    for logger in loggers:
        end = getattr(getattr(logger, "experiment", None), "finish", None)
        if callable(end):
            end()


def _epochs(run: Path) -> list[dict[str, float]]:
    rows = read_table(run / "metrics.csv", ("epoch", "step", "seconds", "attack_share", "samples_per_second"))
    return [{key: float(value) for key, value in row.items() if value != ""} for row in rows]


def _selection(rows: list[dict[str, float]], monitor: str, best: Path) -> Selection | None:
    """What the validation split said of the selected weights, and when the run last asked it."""
    key = {"adversarial": ADVERSARIAL_ACCURACY, "clean": CLEAN_ACCURACY}[monitor]
    asked = [row for row in rows if key in row]
    # Written with the weights, right after they were measured: this may have been in the middle of an epoch.
    kept = measured_on(read_checkpoint(best)) if best.is_file() else None
    if kept is None and asked:  # of a version that noted nothing, and measured at the ends of epochs
        kept = max(asked, key=lambda row: row[key])
    if kept is None:
        return None

    def figures(row: dict[str, float]) -> SelectedEpoch:
        after = next((other for other in rows if other["step"] == row["step"]), {})
        return SelectedEpoch(
            epoch=int(row["epoch"]),
            step=int(row["step"]),
            clean_accuracy=row.get(CLEAN_ACCURACY),
            adversarial_accuracy=row.get(ADVERSARIAL_ACCURACY),
            train_adversarial_accuracy=after.get("train/adversarial_accuracy"),
        )

    return Selection(monitor=key, best=figures(kept), last=figures(asked[-1] if asked else kept))


def _cost(rows: list[dict[str, float]], device: torch.device, worst_case: float | None) -> Cost:
    """What training cost; of epochs of a version that did not count passes, without them."""
    seconds = sum(row["seconds"] for row in rows)
    attacking = sum(row["seconds"] * row["attack_share"] for row in rows)
    sampled = sum(row["seconds"] * row["samples_per_second"] for row in rows)
    cost = Cost(
        train_seconds=seconds,
        attack_share=attacking / seconds if seconds else 0.0,
        samples_per_second=sampled / seconds if seconds else 0.0,
        peak_memory_mb=peak_memory_mb(device),
    )
    if not all("samples" in row for row in rows):
        return cost
    forward, backward, samples = (
        int(sum(row[name] for row in rows)) for name in ("forward_passes", "backward_passes", "samples")
    )
    points = 100 * worst_case if worst_case else None
    passes = {
        "forward_passes": forward,
        "backward_passes": backward,
        "passes_per_sample": (forward + backward) / samples if samples else None,
        "seconds_per_robust_point": seconds / points if points else None,
        "passes_per_robust_point": (forward + backward) / points if points else None,
    }
    return cost.model_copy(update=passes)
