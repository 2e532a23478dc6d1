"""RobustEvaluation in a training that is not ours: any LightningModule, any loader, or one line that says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from robustml.attacks import FGSM
from robustml.errors import RequestError
from robustml.threats import LpBall
from robustml.training.callbacks import RobustEvaluation

pytestmark = pytest.mark.filterwarnings("ignore")  # those of Lightning, on workers and intervals
THREAT = LpBall("Linf", 0.1)
X, Y = torch.rand(40, 1, 3, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2


class Mine(pl.LightningModule):
    """The user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: Any, index: int) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int, dataloader_idx: int = 0) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WithoutForward(Mine):
    forward = nn.Module.forward


def loader(shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=shuffle)


def fit(evaluation: RobustEvaluation, folder: Path, val: Any, model: pl.LightningModule | None = None) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[evaluation], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(model or Mine(), loader(shuffle=True), val)
    return trainer


def test_any_module_with_any_loader_is_evaluated_and_its_training_does_not_notice(tmp_path: Path) -> None:
    weights = []
    for name, options in {
        "all": {},
        "few": {"limit": 10},
        "own": {"data": (X, Y)},
        "rare": {"every_n_epochs": 9},
    }.items():
        trainer = fit(RobustEvaluation(FGSM(), threat=THREAT, **options), tmp_path / name, [loader()])
        figures = [json.loads(file.read_text()) for file in sorted((tmp_path / name / "evaluation").iterdir())]
        assert [each["epoch"] for each in figures] == ([2] if name == "rare" else [1, 2])
        assert figures[-1]["clean_accuracy"]["n"] == (10 if name == "few" else 40)
        logged = float(trainer.callback_metrics["evaluation/fgsm"])
        assert logged == pytest.approx(figures[-1]["attacks"]["fgsm"]["robust_accuracy"]["value"])
        weights.append(trainer.lightning_module.layers[1].weight)
    assert all(torch.equal(weights[0], other) for other in weights[1:])


@pytest.mark.parametrize(
    ("evaluation", "val", "message"),
    [
        (lambda: RobustEvaluation(FGSM()), loader(), "a Mine trains against no threat"),
        (lambda: RobustEvaluation(FGSM(), threat=THREAT), None, "no val loader"),
        (lambda: RobustEvaluation(FGSM(), threat=THREAT), [loader(), loader()], "2 val loaders"),
        (lambda: RobustEvaluation(FGSM(), threat=THREAT, split="train"), loader(), "shuffle=False"),
        (lambda: RobustEvaluation(FGSM, threat=THREAT), loader(), r"such as FGSM\(\)"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_line(
    evaluation: Callable[[], RobustEvaluation], val: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=message) as refusal:
        fit(evaluation(), tmp_path, val)
    assert "\n" not in str(refusal.value)


def test_a_module_without_forward_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match='WithoutForward] is missing the required "forward"'):
        fit(RobustEvaluation(FGSM(), threat=THREAT), tmp_path, loader(), WithoutForward())
