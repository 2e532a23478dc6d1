"""What the bars of a training say, by a run whose epochs and batches are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from operator import length_hint
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from robustml.objectives import Standard
from robustml.threats import LpBall
from robustml.training import RobustClassifier
from robustml.training.callbacks import Bars


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore:.*does not have many workers")
def test_epochs_are_counted_from_1_and_each_loop_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[list[Any]] = []

    def track(items: Iterable[int], what: str) -> Iterator[int]:
        loop = [what, length_hint(items), -1, "open"]
        loops.append(loop)
        try:
            for item in items:
                loop[2] += 1
                yield item
        finally:
            loop[3] = "closed"

    monkeypatch.setattr("robustml.training.callbacks.bars.track", track)
    loader = DataLoader(TensorDataset(torch.rand(10, 1, 2, 2), torch.arange(10) % 2), batch_size=4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[Bars()],
    )  # fmt: skip
    optimizer = partial(torch.optim.SGD, lr=0.1)
    trainer.fit(RobustClassifier(model, Standard(), LpBall("inf", 0.1), optimizer), loader, loader)
    assert loops == [
        ["training", 2, 2, "closed"],
        ["epoch 1/2", 3, 3, "closed"],
        ["validation", 3, 3, "closed"],
        ["epoch 2/2", 3, 3, "closed"],
        ["validation", 3, 3, "closed"],
    ]
