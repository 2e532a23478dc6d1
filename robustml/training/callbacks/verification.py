"""Data that were signed are checked before every epoch (`data.verify=always`), and named in the checkpoints."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from robustml.data import DataModule
from robustml.data.lineage import record_digests
from robustml.data.records import record_name
from robustml.errors import RunFailed

ROOT = "robustml_data_root"
_SHOWN = 5


class Verification(pl.Callback):
    """Files are checked by the guard of the data, and records in memory against what they were as training began.

    Args:
        data: set up, with a guard.

    Raises:
        RunFailed: in training: a file is not as signed and could not be restored, or a record in memory has changed.
    """

    def __init__(self, data: DataModule) -> None:
        self.data = data
        self.known: tuple[Tensor, Tensor] | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check files and records; the first time the records are what is remembered."""
        if self.data.verify != "always":
            return
        records = self.data.trained_on
        now = record_digests(records.x), records.y.cpu().clone()
        if self.known is None:
            self.known = now
            return
        assert self.data.guard is not None
        self.data.guard.check(self.data.source)
        changed = (self.known[0] != now[0]) | (self.known[1] != now[1])
        if bool(changed.any()):
            ids = records.ids.cpu()[changed].tolist()
            more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
            names = ", ".join(map(record_name, ids[:_SHOWN]))
            raise RunFailed(f"records were changed in memory since training began: {names}{more}")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Name the Merkle root of the data in the checkpoint."""
        if self.data.guard is not None:
            checkpoint[ROOT] = self.data.guard.facts.root
