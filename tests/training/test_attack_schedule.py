"""The attack that each epoch trains with, against hand tables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD

from robustml.attacks import FGSM, MSD, PGD, Transfer, Within
from robustml.errors import RequestError
from robustml.objectives import Adversarial, Free, IntervalBound, Standard
from robustml.threats import LpBall, Union
from robustml.training import RobustClassifier
from robustml.training.callbacks import AttackSchedule
from robustml.types import LossOutput, Objective, Threat

THREAT = LpBall("inf", 0.2)

pytestmark = [
    # Lightning 2.6 asks for a class of torch that torch 2.15 calls deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    # A run without a validation split is meant here.
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]

SEEN: list[tuple[float, int, float | None]] = []


@dataclass(frozen=True)
class Noted:
    """An attack that notes its own settings."""

    steps: int = 10
    step_size: float | None = None

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        SEEN.append((round(threat.eps, 6), self.steps, self.step_size and round(self.step_size, 6)))
        return x


@dataclass(frozen=True)
class Wrapper:
    """An objective around another one."""

    objective: Objective

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Any) -> Tensor:
        return self.objective.perturb(model, x, y, threat)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Any) -> LossOutput:
        return self.objective.loss(model, x, x_adv, y, threat)


class Logged(pl.Callback):
    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = ("schedule/eps", "schedule/steps")
        self.epochs.append({name: float(trainer.callback_metrics[name]) for name in names})


class Batches:
    """Two batches an epoch. Lightning takes a plain list for a collection of loaders."""

    def __iter__(self) -> Any:
        return iter([(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))] * 2)

    def __len__(self) -> int:
        return 2


def trainer(epochs: int, *callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )


def module(objective: Objective, validation: Any = None) -> RobustClassifier:
    return RobustClassifier(nn.Linear(3, 2), objective, THREAT, partial(SGD, lr=0.1), validation_attack=validation)


def seen(schedule: AttackSchedule, epochs: int, objective: Objective | None = None) -> list[tuple[float, int, Any]]:
    SEEN.clear()
    trainer(epochs, schedule).fit(module(objective or Adversarial(Noted())), Batches())
    return list(SEEN)


def test_eps_follows_its_line_and_the_step_size_follows_eps() -> None:
    schedule = AttackSchedule(eps=[[0.0, 0.0], [0.5, 1.0]])
    table = [(0.0, 0.05), (0.1, 0.025), (0.2, 0.05), (0.2, 0.05), (0.2, 0.05)]
    expected = [(eps, 10, step) for eps, step in table for _ in range(2)]
    assert seen(schedule, 5, Adversarial(Noted(step_size=0.05))) == expected


def test_eps_before_the_first_point_and_after_the_last() -> None:
    schedule = AttackSchedule(eps=[[0.25, 0.5], [0.75, 1.0]])
    assert [eps for eps, _, _ in seen(schedule, 5)[::2]] == [0.1, 0.1, 0.15, 0.2, 0.2]


@pytest.mark.parametrize(
    ("points", "between", "expected"),
    [
        ([[0.0, 0], [0.5, 3], [1.0, None]], "hold", [0, 0, 3, 3, 10]),
        ([[0.0, 0], [0.75, None]], "line", [0, 3, 7, 10, 10]),
        ([[0.5, 2]], "hold", [2] * 5),
        ([[0.25, 4], [0.5, 2]], "line", [4, 4, 2, 2, 2]),
    ],
)
def test_steps_follow_their_points(points: Any, between: Any, expected: list[int]) -> None:
    found = seen(AttackSchedule(steps=points, between=between), 5)[::2]
    # no steps at all: a ball of radius 0
    assert found == [(0.2 if steps else 0.0, max(steps, 1), None) for steps in expected]


def test_both_at_once_are_logged_and_the_last_epoch_is_at_full_strength() -> None:
    schedule, logged = AttackSchedule(eps=[[0, 0.5], [1, 1]], steps=[[0, 1], [0.5, None]]), Logged()
    SEEN.clear()
    trainer(3, schedule, logged).fit(module(Adversarial(Noted())), Batches())
    assert SEEN[::2] == [(0.1, 1, None), (0.15, 10, None), (0.2, 10, None)]
    expected = [{"schedule/eps": eps, "schedule/steps": steps} for eps, steps in ((0.1, 1), (0.15, 10), (0.2, 10))]
    assert logged.epochs == [pytest.approx(figures) for figures in expected]


def test_batch_by_batch() -> None:
    found = seen(AttackSchedule(eps=[[0, 0], [1, 1]], every="batch"), 3)
    assert [eps for eps, _, _ in found] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])


def test_a_run_of_one_epoch_is_at_full_strength() -> None:
    assert seen(AttackSchedule(eps=[[0, 0], [1, 1]], steps=[[0, 1], [1, None]]), 1) == [(0.2, 10, None)] * 2


def test_what_wraps_the_attack_and_what_is_beside_it() -> None:
    schedule = AttackSchedule(eps=[[0, 0.5], [1, 1]])
    found = seen(schedule, 2, Wrapper(Wrapper(Adversarial(Noted()))))
    assert [eps for eps, _, _ in found] == [0.1, 0.1, 0.2, 0.2]
    validation = PGD()
    given = Adversarial(Noted(), share=0.5, label_smoothing=0.1)
    trained = module(given, validation)
    trainer(1, AttackSchedule(eps=[[0, 0.5]])).fit(trained, Batches())
    assert trained.objective == Adversarial(Noted(), share=0.5, label_smoothing=0.1)
    assert (trained.threat, trained.training_threat) == (THREAT, LpBall("inf", 0.1))
    assert trained.validation_attack is validation
    assert given.attack == Noted()


@pytest.mark.parametrize("every", ["epoch", "batch"])
@pytest.mark.parametrize("stop_after", [2, 3])
def test_a_run_that_resumes_does_what_an_uninterrupted_one_does(every: Any, stop_after: int, tmp_path: Path) -> None:
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            if len(SEEN) == stop_after:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")
                raise KeyboardInterrupt

    def make() -> AttackSchedule:
        return AttackSchedule(eps=[[0, 0.5], [1, 1]], every=every)

    expected = seen(make(), 3)
    SEEN.clear()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(3, make(), Stop()).fit(module(Adversarial(Noted())), Batches())
    with pytest.warns(UserWarning, match="not resumable") if stop_after == 3 else nullcontext():
        trainer(3, make()).fit(
            module(Adversarial(Noted())), Batches(), ckpt_path=tmp_path / "stopped.ckpt", weights_only=True
        )
    # batches that cannot be resumed begin again, so that an interrupted epoch is one batch longer
    rest = SEEN[stop_after:]
    assert rest[-len(expected[stop_after:]) :] == expected[stop_after:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttackSchedule(), "needs eps or steps"),
        (lambda: AttackSchedule(eps=[[0, 0], [100, 1]]), "write epoch 100 of 200 as 0.5"),
        (lambda: AttackSchedule(eps=[[0.5, 0], [0.2, 1]]), "rising"),
        (lambda: AttackSchedule(eps=[]), "points"),
        (lambda: AttackSchedule(eps=[0.5, 1]), "points"),
        (lambda: AttackSchedule(eps=[[0, -1]]), ">= 0"),
        (lambda: AttackSchedule(eps=[[0, None]]), ">= 0"),
        (lambda: AttackSchedule(steps=[[0, 1.5]]), "whole numbers"),
        (lambda: AttackSchedule(steps=[[0, 1]], between="curve"), "hold or line"),
        (lambda: seen(AttackSchedule(eps=[[0, 1]]), 1, Standard()), "Standard has no attack"),
        (lambda: seen(AttackSchedule(eps=[[0, 1]]), 1, IntervalBound()), "IntervalBound has no attack"),
        (lambda: seen(AttackSchedule(steps=[[0, 1]]), 1, Free()), "schedule eps"),
        (lambda: seen(AttackSchedule(steps=[[0, 1]]), 1, Adversarial(FGSM())), "steps of FGSM cannot"),
        (lambda: seen(AttackSchedule(eps=[[0, 1]]), 1, Adversarial(lambda model, x, y: x)), "carries its own budget"),
        (lambda: seen(AttackSchedule(eps=[[0, 1], [0.5, 9], [1, 1]]), 1), "wider than the image range"),
        (lambda: seen(AttackSchedule(eps=[[0, 1]]), -1), r"trainer\.max_epochs"),
    ],
)
def test_bad_requests(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


@pytest.mark.parametrize("every", ["epoch", "batch"])
def test_all_step_sizes_of_a_union_of_balls_follow(every: Any) -> None:
    union = Union([THREAT, LpBall(2, 1.0)])
    trained = module(Adversarial(Within(MSD(steps=2, step_sizes=[0.1, 0.5]), union)))
    trainer(1, AttackSchedule(eps=[[0, 0.5]], every=every)).fit(trained, Batches())
    assert trained.objective == Adversarial(Within(MSD(steps=2, step_sizes=[0.05, 0.25]), union.at(0.5)))


class Watch(pl.Callback):
    """Notes the radius of free training, and how far its images are from the originals."""

    def __init__(self) -> None:
        self.eps: list[float] = []
        self.farthest: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module: Any = pl_module
        x = torch.full((4, 3), 0.5)
        self.eps.append(round(module.training_threat.eps, 6))
        moved = module.objective.perturb(nn.Identity(), x, x, module.training_threat)
        self.farthest.append(float((moved - x).abs().max()))


@pytest.mark.parametrize("last", [1.0, 0.25])
def test_the_ball_of_free_training_grows_and_shrinks(last: float) -> None:
    objective, watch = Free(), Watch()
    schedule = AttackSchedule(eps=[[0.0, 0.0], [0.5, 1.0], [1.0, last]], every="batch")
    trainer(5, schedule, watch).fit(module(objective), Batches())
    assert watch.eps[0] == 0
    assert watch.eps[-1] == pytest.approx(last * 0.2)
    assert max(watch.eps) > 0.18
    for eps, farthest in zip(watch.eps, watch.farthest, strict=True):
        assert farthest == pytest.approx(eps, abs=1e-6)


def test_a_transferred_attack_follows() -> None:
    surrogate = nn.Linear(3, 2)
    trained = module(Adversarial(Transfer(surrogate, PGD(step_size=0.1))))
    trainer(1, AttackSchedule(eps=[[0, 0.5]])).fit(trained, Batches())
    assert trained.objective.attack.attack == PGD(step_size=0.05)


def test_real_attacks_at_every_strength() -> None:
    """PGD refuses 0 steps and steps of length 0, and with eps 0 must leave the images alone."""
    schedule = AttackSchedule(eps=[[0, 0], [0.5, 1]], steps=[[0, 0], [1, None]], between="line")
    trained = module(Adversarial(PGD(steps=4, step_size=0.1)))
    strengths = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
            x_adv = pl_module.objective.attack(pl_module.model, *batch, pl_module.training_threat)
            strengths.append(round(float((x_adv - batch[0]).abs().max()), 4))

    trainer(3, schedule, Look()).fit(trained, Batches())
    assert strengths[:2] == [0.0, 0.0]
    assert 0 < strengths[2] <= 0.2
    assert trained.objective == Adversarial(PGD(steps=4, step_size=0.1))
