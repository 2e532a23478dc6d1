"""EMA and SWA against sums over the recorded weights, and their batch statistics against those of one large batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD

from robustml.attacks import PGD
from robustml.data import DataModule, Digits
from robustml.errors import RequestError
from robustml.evaluation import evaluate
from robustml.objectives import Adversarial, Standard
from robustml.threats import LpBall
from robustml.training import ADVERSARIAL_ACCURACY, AtomicCheckpointIO, RobustClassifier, TrainerData, best_and_last
from robustml.training.callbacks import EMA, SWA, RobustEvaluation, averaged_weights
from robustml.types import Objective

THREAT = LpBall("inf", 0.1)
EPOCHS, STEPS = 4, 5

pytestmark = [
    # Lightning 2.6 asks for a class of torch that torch 2.15 calls deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]

Average = Callable[[], EMA | SWA]


def network(*, norm: bool = True) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 10)]
        return nn.Sequential(*[layer for layer in layers if norm or not isinstance(layer, nn.BatchNorm1d)])


def classifier(objective: Objective | None = None, *, norm: bool = True) -> RobustClassifier:
    return RobustClassifier(
        network(norm=norm),
        objective or Adversarial(PGD(steps=1)),
        THREAT,
        partial(SGD, lr=0.5, momentum=0.9),
        validation_attack=PGD(steps=1),
    )


def digits() -> DataModule:
    return DataModule(Digits(), name="digits", batch_size=64, val_size=120, train_limit=64 * STEPS)


def trainer(callbacks: list[pl.Callback], epochs: int = EPOCHS, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **{"enable_checkpointing": False} | settings,
    )


class Recorder(pl.Callback):
    """The weights after each step, and those that each validation saw."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.modes: set[bool] = set()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.modes.update(module.training for module in pl_module.model.modules())
        self.trained.append(copy.deepcopy(pl_module.model.state_dict()))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.validated.append(copy.deepcopy(pl_module.model.state_dict()))


def run(average: pl.Callback | None, objective: Objective | None = None, **settings: Any) -> tuple[Any, Recorder]:
    recorder = Recorder()
    module = classifier(objective, **settings)
    trainer([*([] if average is None else [average]), recorder]).fit(module, datamodule=TrainerData(digits()))
    return module, recorder


def weights(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten().double() for name, value in state.items() if not name.startswith("2.")])


def statistics(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.double() for name, value in state.items() if "running" in name])


@pytest.mark.parametrize("warmup", [False, True])
def test_ema_is_the_weighted_sum_over_all_steps(warmup: bool) -> None:
    module, recorder = run(EMA(0.8, warmup=warmup))
    expected = torch.zeros(())
    for epoch in range(EPOCHS):
        count = (epoch + 1) * STEPS
        # the weight of step t: what it enters with, times all later decays
        decays = [0.0] + [min(0.8, (1 + n) / (10 + n)) if warmup else 0.8 for n in range(1, count)]
        shares = [(1 - decay) * torch.tensor(decays[t + 1 :]).prod().item() for t, decay in enumerate(decays)]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        for of in (weights, statistics):
            expected = sum(share * of(state) for share, state in zip(shares, recorder.trained[:count], strict=True))
            assert torch.allclose(of(recorder.validated[epoch]), expected, atol=1e-5)
    assert torch.allclose(statistics(module.model.state_dict()), expected, atol=1e-5)
    assert not torch.allclose(weights(recorder.validated[-1]), weights(recorder.trained[-1]), atol=1e-3)
    assert recorder.modes == {True}


@pytest.mark.parametrize(("start", "left_out"), [(0.0, 0), (0.5, 2), (0.4, 1), (0.9, 3)])
def test_swa_is_the_mean_over_the_ends_of_the_last_epochs(start: float, left_out: int) -> None:
    module, recorder = run(SWA(start))
    ends = [weights(state) for state in recorder.trained[STEPS - 1 :: STEPS]]
    for epoch, validated in enumerate(recorder.validated):
        averaged = ends[left_out : epoch + 1] or ends[epoch : epoch + 1]
        assert torch.allclose(weights(validated), torch.stack(averaged).mean(0), atol=1e-6)
    assert torch.allclose(weights(module.model.state_dict()), torch.stack(ends[left_out:]).mean(0), atol=1e-6)


@pytest.mark.parametrize("average", [lambda: None, lambda: EMA(0.9), lambda: SWA(0.0), lambda: SWA(statistics="clean")])
def test_an_average_does_not_change_what_is_trained(average: Callable[[], Any]) -> None:
    _, recorder = run(average())
    _, plain = run(None)
    for state, expected in zip(recorder.trained, plain.trained, strict=True):
        assert all(torch.equal(state[name], value) for name, value in expected.items())


class Brighter:
    """An objective whose examples are known: brighter by a tenth; counts them in a buffer, as some objectives do."""

    def __init__(self) -> None:
        self.crafted = 0

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Any) -> Tensor:
        self.crafted += 1
        return 0.9 * x + 0.1

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Any) -> Any:
        return Standard().loss(model, x_adv, x_adv, y, THREAT)


@pytest.mark.parametrize("kind", ["examples", "clean"])
@pytest.mark.parametrize("make", [partial(EMA, 0.9), partial(SWA, 0.5)])
def test_statistics_are_those_of_the_training_batches(make: partial[EMA | SWA], kind: str) -> None:
    """All batches are of one size, so that the mean over them is that of their outputs in one large one."""
    objective = Brighter()
    module, recorder = run(make(statistics=kind), objective)
    assert objective.crafted == EPOCHS * STEPS
    data = digits()
    data.setup()
    loader = data.train_dataloader()
    first = 2 if make.func is SWA else 0  # until then the model is as it was trained, statistics too
    for epoch in range(first):
        assert torch.equal(statistics(recorder.validated[epoch]), statistics(recorder.trained[STEPS * (epoch + 1) - 1]))
    for epoch, state in enumerate(recorder.validated[first:], start=first):
        loader.set_epoch(epoch)
        inputs = [0.9 * x + 0.1 if kind == "examples" else x for x, _ in loader]
        outputs = [nn.functional.linear(x.flatten(1), state["1.weight"], state["1.bias"]) for x in inputs]
        mean, variance = torch.stack([part.mean(0) for part in outputs]), torch.stack([part.var(0) for part in outputs])
        expected = torch.cat([mean.mean(0), variance.mean(0)]).double()
        assert torch.allclose(statistics(state), expected, atol=1e-5)
    assert torch.equal(statistics(module.model.state_dict()), statistics(recorder.validated[-1]))


def test_only_so_many_batches_are_looked_at() -> None:
    seen: list[int] = []

    class Counting(Brighter):
        def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Any) -> Tensor:
            seen.append(len(x))
            return x

    run(SWA(0.0, batches=2), Counting())
    assert len(seen) == EPOCHS * (STEPS + 2)


@pytest.mark.parametrize(
    "average", [partial(EMA, 0.8), partial(EMA, 0.8, statistics="examples"), partial(SWA, 0.0)], ids=str
)
def test_resuming_equals_going_on_and_checkpoints_hold_the_average(average: Average, tmp_path: Path) -> None:
    def fit(folder: str, epochs: int, resume: Path | None = None) -> tuple[RobustClassifier, Recorder]:
        module, recorder = classifier(), Recorder()
        checkpoints = best_and_last(tmp_path / folder, ADVERSARIAL_ACCURACY)
        running = trainer([average(), recorder, checkpoints], epochs, enable_checkpointing=True)
        running.fit(module, datamodule=TrainerData(digits()), ckpt_path=resume, weights_only=True if resume else None)
        return module, recorder

    whole, recorded = fit("whole", EPOCHS)
    # SWA's share of the run is all of it, so that the shorter run averages as the longer one does
    fit("half", 2)
    rest, after = fit("rest", EPOCHS, tmp_path / "half" / "last.ckpt")
    for first, second in ((recorded.trained[2 * STEPS :], after.trained), (recorded.validated[2:], after.validated)):
        assert len(first) == len(second) > 0
        for state, expected in zip(first, second, strict=True):
            assert all(torch.equal(state[name], value) for name, value in expected.items())
    last = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name])
        assert torch.equal(value, last[f"model.{name}"])
        assert torch.equal(value, recorded.validated[-1][name])
    best = torch.load(tmp_path / "whole" / "best.ckpt", weights_only=True)
    for name, value in recorded.validated[best["epoch"]].items():
        assert torch.equal(value, best["state_dict"][f"model.{name}"])


def test_evaluation_within_training_sees_the_average(tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []

    def note(model: nn.Module, x: Tensor, y: Tensor, *, generator: Any = None) -> Tensor:
        seen.append(copy.deepcopy(model.state_dict()))
        return x

    recorder = Recorder()
    evaluation = RobustEvaluation({"note": note}, tmp_path)
    trainer([evaluation, EMA(0.9), recorder], 2).fit(classifier(), datamodule=TrainerData(digits()))
    first = {name: value for name, value in seen[0].items() if name in recorder.validated[0]}
    assert all(torch.equal(value, recorder.validated[0][name]) for name, value in first.items())
    assert not torch.equal(weights(seen[0]), weights(recorder.trained[STEPS - 1]))


def test_validation_accuracy_is_that_of_the_averaged_model() -> None:
    module, running = classifier(), trainer([EMA(0.9)])
    running.fit(module, datamodule=TrainerData(digits()))
    found = evaluate(module.model, digits().loader("val"), {}, THREAT).clean_accuracy.value
    assert float(running.callback_metrics["val/clean_accuracy"]) == pytest.approx(found, abs=1e-6)


def test_without_an_average_the_weights_stay() -> None:
    module = classifier()
    before = copy.deepcopy(module.model.state_dict())
    with averaged_weights(trainer([]), module):
        assert all(torch.equal(before[name], value) for name, value in module.model.state_dict().items())


def test_a_model_without_batch_norm() -> None:
    _, recorder = run(SWA(0.0), norm=False)
    ends = torch.stack([weights(state) for state in recorder.trained[STEPS - 1 :: STEPS]])
    assert torch.allclose(weights(recorder.validated[-1]), ends.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMA(1.0), r"\[0, 1\), got 1.0"),
        (lambda: SWA(150), "write epoch 150 of 200 as 0.75"),
        (lambda: EMA(statistics="all"), "'examples', 'clean' or 'average'"),  # type: ignore[arg-type]
        (lambda: SWA(batches=0), "batches >= 1"),
        (
            lambda: run(None) and trainer([EMA(), SWA()]).fit(classifier(), datamodule=TrainerData(digits())),
            "one average",
        ),
    ],
)
def test_bad_requests(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()
