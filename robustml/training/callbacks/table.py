"""metrics.csv: a row an epoch, whole after every epoch, continued by a resumed run."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from robustml.files import write_text
from robustml.training.classifier import ADVERSARIAL_ACCURACY, RobustClassifier
from robustml.untrusted import read_rows

__all__ = ["COLUMNS", "EpochTable"]

COLUMNS = (
    "epoch",
    "step",
    "lr",
    "schedule/eps",
    "schedule/steps",
    "train/loss",
    "train/clean_accuracy",
    "train/adversarial_accuracy",
    "val/loss",
    "val/clean_accuracy",
    "val/adversarial_accuracy",
    "robust_gap",
    "seconds",
    "attack_share",
    "samples_per_second",
    "samples",
    "forward_passes",
    "backward_passes",
)


class EpochTable(pl.Callback):
    """Keep the table, and tell one line an epoch to whoever watches.

    Args:
        path: the CSV file. Rows of epochs that a resumed run repeats are replaced.
        say: prints a line; None keeps silent.
    """

    def __init__(self, path: Path, say: Any | None = print) -> None:
        self.path = path
        self.say = say
        self.rows: list[dict[str, Any]] = []
        self._began = 0.0
        self._samples = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of an interrupted run."""
        if self.path.exists():
            rows = read_rows(self.path, ("epoch",))
            self.rows = [row for row in rows if float(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the clock."""
        self._began, self._samples = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of all processes, and look at the clock again before validation starts."""
        self._samples += len(batch[1]) * trainer.world_size
        if trainer.is_last_batch or trainer.should_stop:
            self._seconds = time.perf_counter() - self._began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row; it runs after the module's own hook, which logs the means."""
        if not isinstance(pl_module, RobustClassifier):
            return
        attack_share = pl_module.attack_time.seconds() / max(self._seconds, 1e-9)
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(self._seconds, 4),
            "attack_share": round(attack_share, 4),
            "samples_per_second": round(self._samples / max(self._seconds, 1e-9), 1),
            "samples": self._samples,
            "forward_passes": pl_module.passes.forward * trainer.world_size,
            "backward_passes": pl_module.passes.backward * trainer.world_size,
        }
        # What is counted here comes second: of the names logged below, the trainer still has the last epoch's values.
        row = {name: float(value) for name, value in trainer.callback_metrics.items() if name in COLUMNS} | row
        if {"train/adversarial_accuracy", ADVERSARIAL_ACCURACY} <= row.keys():
            row["robust_gap"] = row["train/adversarial_accuracy"] - row[ADVERSARIAL_ACCURACY]
        pl_module.log("attack_share", row["attack_share"])
        pl_module.log("samples_per_second", row["samples_per_second"])
        self.rows.append(row)
        self._write()
        self._tell(trainer, row)

    @rank_zero_only
    def _write(self) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def _tell(self, trainer: pl.Trainer, row: dict[str, Any]) -> None:
        if self.say is None:
            return
        parts = [f"epoch {row['epoch'] + 1}/{trainer.max_epochs}"]
        for name, label in (
            ("train/loss", "loss {:.4f}"),
            ("val/clean_accuracy", "val clean {:.1%}"),
            ("val/adversarial_accuracy", "val adversarial {:.1%}"),
        ):
            if name in row:
                parts.append(label.format(row[name]))
        parts.append(f"{row['seconds']:.1f} s, {row['attack_share']:.0%} of it attacking")
        self.say("  ".join(parts))
