"""A set as Lightning's trainer takes it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from robustml.data import DataModule
from robustml.data.loader import Place


class TrainerData(pl.LightningDataModule):
    """A set for `trainer.fit(module, datamodule=TrainerData(data))`: each process gets its share of the batches.

    It stands apart from `DataModule`, so that who reads data without training need not wait for Lightning.

    Args:
        data: the set.
    """

    def __init__(self, data: DataModule) -> None:
        super().__init__()
        self.data = data
        # evaluation deals whole batches to the processes, and may have fewer batches than processes
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def prepare_data(self) -> None:
        """Load once, on the first process of each machine: the others then find the decoded set in the cache."""
        self.data.setup()

    def setup(self, stage: str) -> None:
        """Load and split the set, whatever the stage."""
        self.data.setup()

    def train_dataloader(self) -> Any:
        """The training batches."""
        epochs = self._trainer.max_epochs
        return self.data.train_dataloader(self._place(), None if epochs is None or epochs < 1 else epochs)

    def val_dataloader(self) -> Any:
        """The validation part."""
        return self.data.val_dataloader(self._place())

    def test_dataloader(self) -> Any:
        """The test part."""
        return self.data.test_dataloader(self._place())

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "a trainer asks for batches, and it has attached itself before"
        return self.trainer

    def _place(self) -> Place:
        return Place(self._trainer.strategy.root_device, self._trainer.global_rank, self._trainer.world_size)
