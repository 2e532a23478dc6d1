"""metrics.csv: a row an epoch, whole after every epoch, continued by a resumed run; epochs are counted from 1."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from robustml.errors import RequestError
from robustml.files import write_text
from robustml.training.batches import images_and_labels
from robustml.training.classifier import ADVERSARIAL_ACCURACY, RobustClassifier
from robustml.untrusted import read_rows

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
        self._began = self._paused = self._seconds = 0.0
        self._samples = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of an interrupted run."""
        if not isinstance(pl_module, RobustClassifier):
            raise RequestError(f"EpochTable reads what a RobustClassifier counts, got a {type(pl_module).__name__}")
        if self.path.exists():
            self.rows = [row for row in read_table(self.path) if row["epoch"] <= trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the clock."""
        self._began, self._samples, self._seconds = time.perf_counter(), 0, 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples of all processes, and look at the clock again, before any validation starts."""
        self._samples += len(images_and_labels(batch)[1]) * trainer.world_size
        self._seconds = time.perf_counter() - self._began

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock, for a validation in the middle of an epoch."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let it go on."""
        self._began += time.perf_counter() - self._paused

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row; it runs after the module's own hook, which logs the means."""
        assert isinstance(pl_module, RobustClassifier)
        attack_share = pl_module.attack_time.seconds() / max(self._seconds, 1e-9)
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(self._seconds, 4),
            "attack_share": round(attack_share, 4),
            "samples_per_second": round(self._samples / max(self._seconds, 1e-9), 1),
            "samples": self._samples,
            "forward_passes": pl_module.passes.forward * trainer.world_size,
            "backward_passes": pl_module.passes.backward * trainer.world_size,
        }
        # Of what is not measured in every epoch, such as validation, the trainer would still know the last figure.
        row |= {name: value for name, value in pl_module.figures.items() if name in COLUMNS}
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
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        parts = [f"epoch {row['epoch']}{of}"]
        for name, label in (
            ("train/loss", "loss {:.4f}"),
            ("val/clean_accuracy", "val clean {:.1%}"),
            ("val/adversarial_accuracy", "val adversarial {:.1%}"),
        ):
            if name in row:
                parts.append(label.format(row[name]))
        parts.append(f"{row['seconds']:.1f} s")
        self.say("  ".join(parts))


def read_table(
    path: Path, columns: Collection[str] = ("epoch", "step"), texts: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The rows of a run's metrics.csv or health.csv as they are in the file, but `epoch`, a whole number from 1.

    Older versions counted epochs from 0: such a table begins with epoch 0, and is renumbered here.

    Args:
        path: the file.
        columns: see `read_rows`; `epoch` among them.
        texts: see `read_rows`.

    Raises:
        RequestError: the file is absent, empty or damaged.
    """
    rows: list[dict[str, Any]] = list(read_rows(path, columns, texts))
    first = 1 if rows and float(rows[0]["epoch"]) == 0 else 0
    return [row | {"epoch": int(float(row["epoch"])) + first} for row in rows]
