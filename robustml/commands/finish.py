"""After training: judge the selected model on the test split and complete the run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from robustml.commands.backdoors import Planted, backdoor_figures
from robustml.commands.collapse import collapse_flags
from robustml.commands.judge import evaluate_as_configured, peak_memory_mb, tell, write_outcome
from robustml.commands.parts import say
from robustml.commands.runs import (
    BEST,
    LAST,
    WEIGHTS,
    checkpoint_weights,
    describe_model,
    load_weights,
    save_weights,
)
from robustml.data import DataModule
from robustml.reporting.schema import read_results
from robustml.reporting.story import selection_lines
from robustml.training import ADVERSARIAL_ACCURACY, CLEAN_ACCURACY, RobustClassifier
from robustml.training.callbacks.catastrophic_overfitting import HEALTH
from robustml.types import Threat
from robustml.untrusted import read_rows

__all__ = ["close", "finish"]


def finish(
    trainer: pl.Trainer,
    module: RobustClassifier,
    data: DataModule,
    threat: Threat,
    settings: dict[str, Any],
    run: Path,
    planted: Sequence[Planted] = (),
) -> None:
    """Load the best weights, evaluate them as configured, and write weights, results, examples and report."""
    best = run / BEST if (run / BEST).is_file() else run / LAST
    trainer.strategy.barrier()
    load_weights(module.model, checkpoint_weights(best), best)
    device = trainer.strategy.root_device
    results, curve = evaluate_as_configured(module.model, data, threat, settings["evaluation"], device)
    if not trainer.is_global_zero:
        return
    save_weights(module.model, run / WEIGHTS)
    rows = _epochs(run)
    results.flags += collapse_flags(run / HEALTH)
    worst = results.worst_case.value if results.verdicts.attacks else None
    write_outcome(
        run,
        results,
        curve,
        data,
        settings,
        device,
        command="train",
        model=describe_model(settings["model"], module.model, run / WEIGHTS),
        backdoor=backdoor_figures(planted, module.model, data, settings["evaluation"], device),
        selection=_selection(rows, settings["validation"]["monitor"]) if data.val is not None else None,
        cost=_cost(rows, device, worst),
    )
    for logger in trainer.loggers:
        figures = {f"test/{name}": results.robust_accuracy(name).value for name in results.verdicts.attacks}
        figures |= {"test/clean": results.clean_accuracy.value, "test/worst_case": results.worst_case.value}
        logger.log_metrics({key: value for key, value in figures.items() if value is not None})
        logger.finalize("success")
    close(trainer.loggers)
    for line in selection_lines(read_results(run)):
        say(line)
    tell(run)


def close(loggers: Sequence[Logger]) -> None:
    """End the runs of loggers such as wandb's, which would go on into the next job of a multirun."""
    for logger in loggers:
        end = getattr(getattr(logger, "experiment", None), "finish", None)
        if callable(end):
            end()


def _epochs(run: Path) -> list[dict[str, float]]:
    rows = read_rows(run / "metrics.csv", ("epoch", "seconds", "attack_share", "samples_per_second"))
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def _selection(rows: list[dict[str, float]], monitor: str) -> dict[str, Any] | None:
    """What the validation split said of the selected epoch and of the last one."""
    key = {"adversarial": ADVERSARIAL_ACCURACY, "clean": CLEAN_ACCURACY}[monitor]
    rows = [row for row in rows if key in row]
    if not rows:
        return None

    def figures(row: dict[str, float]) -> dict[str, Any]:
        return {
            "epoch": int(row["epoch"]),
            "clean_accuracy": row.get(CLEAN_ACCURACY),
            "adversarial_accuracy": row.get(ADVERSARIAL_ACCURACY),
            "train_adversarial_accuracy": row.get("train/adversarial_accuracy"),
        }

    return {"monitor": key, "best": figures(max(rows, key=lambda row: row[key])), "last": figures(rows[-1])}


def _cost(rows: list[dict[str, float]], device: torch.device, worst_case: float | None) -> dict[str, float | None]:
    seconds = sum(row["seconds"] for row in rows)
    attacking = sum(row["seconds"] * row["attack_share"] for row in rows)
    samples = sum(row["seconds"] * row["samples_per_second"] for row in rows)
    return {
        "train_seconds": seconds,
        "attack_share": attacking / seconds if seconds else 0.0,
        "samples_per_second": samples / seconds if seconds else 0.0,
        "peak_memory_mb": peak_memory_mb(device),
    } | _passes(rows, seconds, worst_case)


def _passes(rows: list[dict[str, float]], seconds: float, worst_case: float | None) -> dict[str, float | None]:
    """What was computed, and what each percent of worst-case accuracy cost."""
    if not all("samples" in row for row in rows):
        return {}  # epochs of a version that did not count
    forward, backward, samples = (
        int(sum(row[name] for row in rows)) for name in ("forward_passes", "backward_passes", "samples")
    )
    points = 100 * worst_case if worst_case else None
    return {
        "forward_passes": forward,
        "backward_passes": backward,
        "passes_per_sample": (forward + backward) / samples if samples else None,
        "seconds_per_robust_point": seconds / points if points else None,
        "passes_per_robust_point": (forward + backward) / points if points else None,
    }
