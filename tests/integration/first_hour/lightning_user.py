"""A module of a user's own, trained by the Lightning that argv names, with each of robustml's callbacks in turn."""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import robustml
from robustml.attacks import PGD
from robustml.errors import RequestError
from robustml.training import callbacks

lightning: Any = importlib.import_module(sys.argv[1])


class Mine(lightning.LightningModule):
    """A linear model."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("val/adversarial_accuracy", 0.5)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def attempt(name: str, make: Callable[[Path], Any], expected: str) -> None:
    """Train two epochs with the callback, in a folder of their own; say what came of it."""
    loader = DataLoader(TensorDataset(torch.rand(32, 1, 4, 4), torch.randint(0, 3, (32,))), batch_size=8)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[make(Path(folder))],
            default_root_dir=folder,
        )
        try:
            trainer.fit(Mine(), loader, loader)
        except RequestError as error:
            print(name, "refuses" if "\n" not in str(error) else "refuses at length")
        else:
            wrote = any(Path(folder).rglob(expected))
            print(name, "works" if wrote else "does nothing")


warnings.simplefilter("ignore")
threat = robustml.LpBall("inf", 0.1)
attacks = {"pgd": PGD(steps=2)}
attempt("RobustEvaluation", lambda out: callbacks.RobustEvaluation(attacks, out, threat=threat), "epoch-0002.json")
attempt("EpochTable", lambda out: callbacks.EpochTable(out / "metrics.csv", say=None), "metrics.csv")
attempt("EMA", lambda _: callbacks.EMA(), "*")
attempt("SWA", lambda _: callbacks.SWA(), "*")
attempt("CatastrophicOverfitting", lambda _: callbacks.CatastrophicOverfitting(), "*")
