"""What only a CUDA device can show: `pytest -m gpu`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from robustml import LpBall, RobustClassifier, evaluate
from robustml.attacks import FAB, FGSM, PGD, AutoAttack, TorchAttack
from robustml.attacks.engine.captured import Captured, cuda_graphs
from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.data import DataModule, Digits
from robustml.errors import RequestError
from robustml.models import DigitsCNN
from robustml.objectives import Adversarial
from robustml.training import TrainerData

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
        Adversarial(PGD(steps=5)),
        THREAT,
        partial(torch.optim.Adam, lr=0.005),
        validation_attack=PGD(),
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
    trainer.fit(module, datamodule=TrainerData(data))
    return module


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_trains_and_evaluates_on_the_device(data: DataModule, precision: str) -> None:
    module = trained(data, precision).cuda()
    attacks = {"fgsm": FGSM(), "pgd": PGD(early_stop=True), "mifgsm": TorchAttack("MIFGSM")}
    results = evaluate(module.model, data.loader("test", device="cuda"), attacks, THREAT)
    assert results.clean_accuracy.value is not None
    assert results.clean_accuracy.value > 0.85
    assert module.attack_time.seconds() > 0


def test_the_device_judges_like_the_cpu(data: DataModule) -> None:
    model = trained(data, "32-true").model
    attacks = {"pgd": PGD(random_start=False)}
    on_cpu = evaluate(model.cpu(), data.loader("test"), attacks, THREAT).verdicts
    on_gpu = evaluate(model.cuda(), data.loader("test", device="cuda"), attacks, THREAT).verdicts
    assert (on_cpu.prediction == on_gpu.prediction).mean() > 0.99
    assert (on_cpu.worst_case == on_gpu.worst_case).mean() > 0.98


def test_the_set_lives_on_the_device_as_bytes(data: DataModule) -> None:
    loader = data.loader("train", device="cuda")
    assert loader.records.x.is_cuda
    assert loader.records.x.dtype == torch.uint8
    x, y = next(iter(loader))
    assert x.is_cuda
    assert y.is_cuda
    assert x.dtype == torch.float32


def images(data: DataModule) -> tuple[torch.Tensor, torch.Tensor]:
    """The test set on the device."""
    batches = list(data.loader("test", device="cuda"))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_captured_passes_are_those_of_the_model(data: DataModule) -> None:
    """In any order of sizes and kinds: all of them share a pool of memory, and none may write over another's."""
    model = trained(data, "32-true").model.cuda().eval()
    x, _ = images(data)
    captured = Captured(model, 100, cuda_graphs(x.device))
    with crafting(captured, x) as (x,):
        for count in (1, 100, 37, 64, 3, 100, 65, 1, 37):
            part = x[:count]
            torch.testing.assert_close(captured(part), model(part), atol=1e-4, rtol=1e-4)
            for column in (0, 9):
                expected = input_gradient(model, part, lambda scores, k=column: scores[:, k])
                found = input_gradient(captured, part, lambda scores, k=column: scores[:, k])
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    first, second = x[:30].clone().requires_grad_(), x[30:62].clone().requires_grad_()
    early, late = captured(first), captured(second)
    for column in (0, 3):
        for part, logits in ((first, early), (second, late)):
            (slope,) = torch.autograd.grad(logits[:, column].sum(), part, retain_graph=True)
            (expected_slope,) = torch.autograd.grad(model(part)[:, column].sum(), part)
            torch.testing.assert_close(slope, expected_slope, atol=1e-4, rtol=1e-4)
    nearest = FAB(steps=5, targets=None)
    torch.testing.assert_close(nearest(captured, x, model(x).argmax(1)), nearest(model, x, model(x).argmax(1)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_captured_graphs_change_no_verdict(data: DataModule, precision: str) -> None:
    model = trained(data, "32-true").model.cuda().eval()
    x, y = images(data)
    robust, seconds = [], []
    for graphs in (False, True):
        attack = AutoAttack(precision=precision, graphs=graphs)  # type: ignore[arg-type]
        torch.cuda.synchronize()
        began = time.perf_counter()
        x_adv = attack(model, x, y, THREAT, generator=torch.Generator().manual_seed(0))
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        assert THREAT.contains(x_adv, x).all()
        with torch.no_grad():
            robust.append(model(x_adv).argmax(dim=1) == y)
    print(f"{precision}: {seconds[0]:.1f} s without graphs, {seconds[1]:.1f} s with, {seconds[0] / seconds[1]:.2f} x")
    assert 0 < robust[0].float().mean() < 1
    assert (robust[0] == robust[1]).float().mean() >= 0.99


def test_what_no_graph_can_hold_is_refused(data: DataModule) -> None:
    class Waits(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :10] * float(x.mean())

    x, _ = images(data)
    with pytest.raises(RequestError, match="cannot be captured"):
        Captured(Waits().eval(), 100, cuda_graphs(x.device))(x[:10])
    assert x.sum().isfinite(), "the device goes on working"
