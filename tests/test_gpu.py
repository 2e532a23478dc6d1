"""What only a CUDA device can show: `pytest -m gpu`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from robustml import LpBall, RobustClassifier, evaluate
from robustml.attacks import FGSM, PGD, TorchAttack
from robustml.data import DataModule, Digits
from robustml.models import DigitsCNN
from robustml.objectives import Adversarial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]

THREAT = LpBall("inf", 0.15)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataModule:
    monkeypatch.setenv("ROBUSTML_CACHE", str(tmp_path / "cache"))
    module = DataModule(Digits(), name="digits", val_size=180)
    module.setup()
    return module


def trained(data: DataModule, precision: str, epochs: int = 8) -> RobustClassifier:
    pl.seed_everything(0, verbose=False)
    module = RobustClassifier(
        DigitsCNN((1, 8, 8), 10),
        Adversarial(PGD(THREAT, steps=5)),
        partial(torch.optim.Adam, lr=0.005),
        validation_attack=PGD(THREAT),
    )
    trainer = pl.Trainer(
        accelerator="gpu",
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        inference_mode=False,
    )
    trainer.fit(module, datamodule=data)
    return module


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_trains_and_evaluates_on_the_device(data: DataModule, precision: str) -> None:
    module = trained(data, precision).cuda()
    attacks = {"fgsm": FGSM(THREAT), "pgd": PGD(THREAT, early_stop=True), "mifgsm": TorchAttack("MIFGSM", THREAT)}
    results = evaluate(module.model, data.loader("test", device="cuda"), attacks, THREAT)
    assert results.clean_accuracy.value is not None
    assert results.clean_accuracy.value > 0.85
    assert module.attack_time.seconds() > 0


def test_the_device_judges_like_the_cpu(data: DataModule) -> None:
    model = trained(data, "32-true").model
    attacks = {"pgd": PGD(THREAT, random_start=False)}
    on_cpu = evaluate(model.cpu(), data.loader("test"), attacks, THREAT).verdicts
    on_gpu = evaluate(model.cuda(), data.loader("test", device="cuda"), attacks, THREAT).verdicts
    assert (on_cpu.prediction == on_gpu.prediction).mean() > 0.99
    assert (on_cpu.worst_case == on_gpu.worst_case).mean() > 0.98


def test_the_set_lives_on_the_device_as_bytes(data: DataModule) -> None:
    loader = data.loader("train", device="cuda")
    assert loader.arrays.x.is_cuda
    assert loader.arrays.x.dtype == torch.uint8
    x, y = next(iter(loader))
    assert x.is_cuda
    assert y.is_cuda
    assert x.dtype == torch.float32
