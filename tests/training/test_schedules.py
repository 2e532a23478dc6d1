from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from robustml.errors import RequestError
from robustml.training import Cosine, OneCycle, Piecewise, Triangular

PEAK = 0.2
Schedule = Callable[[Optimizer, int], LRScheduler]


def optimizer() -> Optimizer:
    return SGD([nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)


def rates(schedule: Schedule, steps: int) -> list[float]:
    """The learning rate that each of `steps` batches is trained with; stepped after the last too, as Lightning does."""
    descent = optimizer()
    scheduler = schedule(descent, steps)
    used = []
    for _ in range(steps):
        used.append(descent.param_groups[0]["lr"])
        descent.step()
        scheduler.step()
    assert math.isfinite(descent.param_groups[0]["lr"])
    return used


def test_piecewise_drops_at_its_milestones() -> None:
    assert rates(Piecewise(), 8) == pytest.approx([0.2] * 4 + [0.02] * 2 + [0.002] * 2)
    assert rates(Piecewise([0.7], factor=0.5), 10) == pytest.approx([0.2] * 7 + [0.1] * 3)
    assert rates(Piecewise([]), 3) == pytest.approx([0.2] * 3)


@pytest.mark.parametrize(("epochs", "batches"), [(10, 7), (5, 3), (15, 4)])
def test_triangular_is_wong_s_schedule_step_by_step(epochs: int, batches: int) -> None:
    """locuslab/fast_adversarial, train_mnist.py: lr_schedule(epoch + (i + 1) / len(train_loader))."""
    expected = [
        np.interp(epoch + (i + 1) / batches, [0, epochs * 2 // 5, epochs], [0, PEAK, 0])
        for epoch in range(epochs)
        for i in range(batches)
    ]
    assert rates(Triangular(peak=0.4), epochs * batches) == pytest.approx(expected, abs=1e-12)


def test_triangular_by_hand() -> None:
    assert rates(Triangular(peak=0.5), 4) == pytest.approx([0.1, 0.2, 0.1, 0.0])


def test_cosine_end_points_and_middle() -> None:
    plain = rates(Cosine(), 8)
    assert plain[0] == PEAK
    assert plain[4] == pytest.approx(PEAK / 2)
    assert plain[2] == pytest.approx(PEAK * (1 + math.sqrt(0.5)) / 2)
    assert plain == sorted(plain, reverse=True)
    descent = optimizer()
    scheduler = Cosine(final=0.1)(descent, 8)
    for _ in range(8):
        descent.step()
        scheduler.step()
    assert descent.param_groups[0]["lr"] == pytest.approx(0.1 * PEAK)


def test_cosine_after_a_warm_up() -> None:
    warm = rates(Cosine(warmup=0.5), 8)
    assert warm[:5] == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert warm[6] == pytest.approx(PEAK / 2)
    assert rates(Cosine(warmup=1.0), 4) == pytest.approx([0.0, 0.05, 0.1, 0.15])


@pytest.mark.parametrize("momentum", [False, True])
def test_one_cycle_is_torch_s(momentum: bool) -> None:
    def torch_s(descent: Optimizer, steps: int) -> LRScheduler:
        return OneCycleLR(
            descent,
            max_lr=PEAK,
            total_steps=steps,
            pct_start=0.3,
            div_factor=10,
            final_div_factor=100,
            cycle_momentum=momentum,
        )

    ours = OneCycle(pct_start=0.3, div_factor=10, final_div_factor=100, cycle_momentum=momentum)
    assert rates(ours, 20) == rates(torch_s, 20)
    assert max(rates(ours, 20)) == pytest.approx(PEAK)


@pytest.mark.parametrize("schedule", [Piecewise(), Triangular(), Cosine(), Cosine(warmup=0.2), OneCycle()])
def test_each_parameter_group_keeps_its_own_rate(schedule: Schedule) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.2, 0.02)]
    descent = SGD(groups, lr=1.0, momentum=0.9)
    scheduler = schedule(descent, 10)
    for _ in range(9):
        first, second = (group["lr"] for group in descent.param_groups)
        assert second == pytest.approx(first / 10, abs=1e-12)
        descent.step()
        scheduler.step()


@pytest.mark.parametrize("milestones", [[100, 150], [0.0], [1.0], [0.5, -0.1]])
def test_milestones_that_are_no_shares_are_refused(milestones: list[float]) -> None:
    with pytest.raises(RequestError, match="0\\.5"):
        Piecewise(milestones)


@pytest.mark.parametrize("peak", [0.0, 1.0, 5.0])
def test_a_peak_outside_the_run_is_refused(peak: float) -> None:
    with pytest.raises(RequestError, match="peak"):
        Triangular(peak)
