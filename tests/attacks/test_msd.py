from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from bound import bound
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks import MSD, PGD
from robustml.errors import RequestError
from robustml.threats import LpBall, SparseBall, Union
from robustml.types import Threat

BALLS = (LpBall("inf", 0.1), LpBall(2, 0.3), LpBall(1, 0.9))


def losses_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(model(x), y, reduction="none")


@torch.no_grad()
def test_a_step_on_a_linear_model_is_the_best_of_one_step_in_each_norm(
    linear_model: nn.Module, flat_batch: Any
) -> None:
    """The steps written out by hand, from the gradient in closed form, away from the edge of the box."""
    x, y, model = flat_batch.x.double() * 0.2 + 0.4, flat_batch.y, linear_model.double()
    weight = model[1].weight  # type: ignore[index]
    sizes = (0.05, 0.14, 0.28)
    expected, choices = [], []
    for image, label in zip(x, y, strict=True):
        probability = model(image[None]).softmax(1)[0]
        probability[label] -= 1
        slope = probability @ weight
        pixel = slope.abs().argmax()
        sparse = torch.zeros(12, dtype=torch.float64)
        sparse[pixel] = 0.28 * slope[pixel].sign()
        moves = [0.05 * slope.sign(), 0.14 * slope / slope.norm(), sparse]
        found = [float(losses_of(model, (image + move)[None], label[None])) for move in moves]
        choices.append(max(range(3), key=found.__getitem__))
        expected.append(image + moves[choices[-1]])
    attack = bound(Union(BALLS), MSD(steps=1, step_sizes=sizes))
    torch.testing.assert_close(attack(model, x, y), torch.stack(expected), atol=1e-7, rtol=0)
    assert len(set(choices)) > 1, "one norm is the best for all: the test would see no choice"


@pytest.mark.parametrize("size", [None, 0.7])
@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("ball", BALLS, ids=["inf", "2", "1"])
def test_with_one_threat_it_is_pgd_from_the_original(
    ball: LpBall, loss: Any, size: float | None, conv_model: nn.Module, image_batch: Any
) -> None:
    step = None if size is None else size * ball.eps
    one = bound(Union([ball]), MSD(steps=4, step_sizes=None if step is None else [step], loss=loss))
    pgd = bound(ball, PGD(steps=4, step_size=step, loss=loss, random_start=False))
    assert torch.equal(one(conv_model, *image_batch), pgd(conv_model, *image_batch))


def test_it_is_at_least_as_strong_as_each_norm_and_walks_in_several(digits_net: Any) -> None:
    model, (x, y) = digits_net
    balls = (LpBall("inf", 0.08), LpBall(2, 0.45), LpBall(1, 1.0))
    x_adv = bound(Union(balls), MSD(steps=10))(model, x, y)
    fooled = [
        (model(bound(ball, PGD(steps=10, random_start=False))(model, x, y)).argmax(1) != y).float().mean()
        for ball in balls
    ]
    assert (model(x_adv).argmax(1) != y).float().mean() > max(fooled) - 0.02
    held = torch.stack([ball.contains(x_adv, x) for ball in balls])
    assert held.any(0).all()
    assert not held.all(1).any(), "no ball holds all of them"


def test_contains_is_any_and_the_budget_is_a_share() -> None:
    """By hand, in two dimensions: eps .1, .12 and .15, moves of which each ball holds some."""
    union = Union([LpBall("inf", 0.1), LpBall(2, 0.12), LpBall(1, 0.15)])
    x = torch.full((6, 2), 0.5)
    moves = torch.tensor([[0.1, 0.1], [0.11, 0.03], [0.12, 0.0], [0.145, 0.0], [0.15, 0.15], [0.101, 0.1]])
    assert union.contains(x + moves, x).tolist() == [True, True, True, True, False, False]
    half = dataclasses.replace(union, eps=0.5)
    assert half.contains(x + moves, x).tolist() == [False] * 6
    assert half.contains(x + moves / 2, x).tolist() == [True, True, True, True, False, False]
    expected = [1.0, 0.14 / 0.15, 0.12 / 0.15, 0.145 / 0.15, 1.5, 1.01]
    torch.testing.assert_close(union.distance(x + moves, x), torch.tensor(expected))
    torch.testing.assert_close(half.distance(x + moves, x), torch.tensor(expected))
    assert not union.contains(torch.full((1, 2), 1.05), torch.ones(1, 2)).any()
    assert not union.contains(torch.full((1, 2), math.nan), torch.ones(1, 2)).any()


def test_project_finds_the_nearest_of_many_points_of_the_union() -> None:
    union = Union([LpBall("inf", 0.1), LpBall(2, 0.14), LpBall(1, 0.2)], eps=0.9)
    assert isinstance(union, Threat)
    x = torch.tensor([[0.5, 0.5], [0.05, 0.5], [0.9, 1.0]]).double()
    wanted = x + torch.tensor([[0.3, 0.02], [-0.2, 0.15], [0.02, -0.4]])
    axis = torch.linspace(-0.2, 0.2, 161).double()
    grid = torch.cartesian_prod(axis, axis)
    for original, outside in zip(x, wanted, strict=True):
        points = original + grid
        held = points[union.contains(points, original.expand_as(points), atol=1e-9)]
        nearest = (held - outside).norm(dim=1).min()
        projected = union.project(outside[None], original[None])
        assert union.contains(projected, original[None]).all()
        assert abs((projected - outside).norm() - nearest) < 0.004
    start = union.sample(x, torch.Generator().manual_seed(1))
    assert union.contains(start, x).all()
    assert not torch.equal(start, x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Union([]), "balls"),
        (lambda: Union([SparseBall(3)]), "balls"),
        (lambda: Union([LpBall(2, 1.0), LpBall(1, 1.0, bounds=(-1, 1))]), "one box"),
        (lambda: Union(BALLS, eps=1.5), "share"),
        (lambda: Union(BALLS).ascend(torch.ones(1, 2), torch.ones(1, 2), 0.1), "attack=msd"),
        (lambda: bound(LpBall(2, 1.0), MSD()), "attack=pgd"),  # type: ignore[arg-type]
        (lambda: bound(Union(BALLS), MSD(steps=0)), "steps"),
        (lambda: bound(Union(BALLS), MSD(step_sizes=[0.1, 0.1])), "one for each of 3"),
        (lambda: bound(Union(BALLS), MSD(step_sizes=[0.1, 0.1, 0.0])), "> 0"),
        (lambda: bound(Union(BALLS), MSD(loss="mse")), "mse"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


def test_another_budget_scales_every_ball(conv_model: nn.Module, image_batch: Any) -> None:
    half = Union(BALLS).at(0.5)
    smaller = bound(Union([ball.at(ball.eps / 2) for ball in BALLS]), MSD(steps=3))
    assert torch.equal(MSD(steps=3)(conv_model, *image_batch, half), smaller(conv_model, *image_batch))
    assert "union" in half.norm
    assert "L2" in half.describe()
