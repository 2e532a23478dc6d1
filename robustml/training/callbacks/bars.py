"""How far a training is, in bars like those of every other loop; epochs are counted from 1."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import count
from math import isfinite
from typing import Any

import pytorch_lightning as pl

from robustml.progress import track


class Bars(pl.Callback):
    """Show the epochs, and below them the batches of the one at hand or of its validation, wherever progress is shown.

    It takes the place of Lightning's bar, which counts epochs from 0.
    """

    def __init__(self) -> None:
        self._open: list[Generator[int, None, None]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epochs that are left."""
        self._begin("training", (trainer.max_epochs or -1) - trainer.current_epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the batches of an epoch."""
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self._begin(f"epoch {trainer.current_epoch + 1}{of}", trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch."""
        self._count()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count an epoch."""
        self._end()
        self._count()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bars away."""
        while self._open:
            self._end()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the batches of a validation."""
        self._begin("validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Count a batch."""
        self._count()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the epoch."""
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bars away, before anything is said."""
        while self._open:
            self._end()

    def _begin(self, what: str, items: float) -> None:
        self._open.append(track(_Steps(items), what))
        self._count()

    def _count(self) -> None:
        next(self._open[-1], None)

    def _end(self) -> None:
        self._open.pop().close()


class _Steps:
    """So many, but without an end: a loop that is closed says nothing of itself, since the line of the epoch does."""

    def __init__(self, number: float) -> None:
        self._number = int(number) if number > 0 and isfinite(number) else 0

    def __length_hint__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[int]:
        return count()
