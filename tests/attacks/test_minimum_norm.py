"""Minimum-norm attacks against smallest perturbations that are known without them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from bound import bound
from torch import Generator, Tensor, nn

from robustml.attacks import DDN, FMN, PGD
from robustml.attacks.fmn import _into_ball
from robustml.errors import RequestError
from robustml.threats import LpBall, SparseBall
from robustml.types import Attack, MinimumNormAttack

DUAL = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}


def within(attack: Any, threat: LpBall, **settings: Any) -> bound:
    return bound(threat, attack(**settings))


ATTACKS: dict[str, tuple[float, Callable[[LpBall], MinimumNormAttack]]] = {
    "fmn-inf": (math.inf, partial(within, FMN)),
    "fmn-2": (2.0, partial(within, FMN)),
    "fmn-1": (1.0, partial(within, FMN)),
    "fmn-2-target": (2.0, lambda threat: bound(threat, FMN(target="runner_up"))),
    "ddn": (2.0, partial(within, DDN)),
}
over_attacks = pytest.mark.parametrize(("p", "make"), ATTACKS.values(), ids=ATTACKS)
UNTARGETED = [name for name in ATTACKS if "target" not in name]
over_untargeted = pytest.mark.parametrize(("p", "make"), [ATTACKS[name] for name in UNTARGETED], ids=UNTARGETED)


class Plane(nn.Module):
    """Class 1 on one side of the plane weight . x + bias = 0, class 0 on the other."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def score(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight + self.bias

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        return torch.stack([torch.zeros_like(score), score], dim=1)


def fools(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x_adv).argmax(1) != y


@pytest.mark.parametrize("size", [10, 300])
@over_attacks
def test_the_distance_to_a_plane(p: float, make: Callable[[LpBall], MinimumNormAttack], size: int) -> None:
    """|weight . x + bias| over the dual norm of the weight, from the middle of a box that is out of reach."""
    generator = Generator().manual_seed(30)
    weight = torch.randn(size, generator=generator, dtype=torch.float64)
    model, threat = Plane(weight, 0.3), LpBall(p, 0.1, bounds=(-100, 100))
    x = torch.randn(6, size, generator=generator, dtype=torch.float64) * 0.3
    y = (model.score(x) > 0).long()
    x_adv = make(threat).smallest(model, x, y)
    assert fools(model, x_adv, y).all()
    closed_form = (model.score(x).abs() / torch.linalg.vector_norm(weight, ord=DUAL[p])).detach()
    ratio = threat.distance(x_adv, x) / closed_form
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() < (1.05 if p == 1.0 else 1.01)


@over_untargeted
def test_the_box_stops_one_pixel(p: float, make: Callable[[LpBall], MinimumNormAttack]) -> None:
    """The score 2 a + b has to fall by 0.4 and a has room for 0.2 of it: b must give the rest, whatever the norm."""
    model = Plane(torch.tensor([2.0, 1.0], dtype=torch.float64), -0.3)
    x, y = torch.tensor([[0.1, 0.5]], dtype=torch.float64), torch.tensor([1])
    x_adv = make(LpBall(p, 0.5)).smallest(model, x, y)
    assert fools(model, x_adv, y).all()
    torch.testing.assert_close(x_adv, torch.tensor([[0.0, 0.3]], dtype=torch.float64), atol=4e-3, rtol=0)


def test_the_projections_are_the_threats() -> None:
    """For p = 2 only where the box does not bind: there the search settles for less than the nearest point."""
    generator = Generator().manual_seed(31)
    origin = torch.rand(60, 15, generator=generator, dtype=torch.float64)
    moved = origin + torch.randn(60, 15, generator=generator, dtype=torch.float64)
    share = torch.rand(60, 1, generator=generator, dtype=torch.float64)
    for p, bounds, widest in (
        (math.inf, (0.0, 1.0), 1.0),
        (1.0, (0.0, 1.0), 6.0),
        (1.0, (-9.0, 9.0), 9.0),
        (2.0, (-9.0, 9.0), 4.0),
    ):
        eps = share * widest
        found = _into_ball(moved, origin, eps, LpBall(p, 0.1, bounds))
        for k in range(60):
            threat = LpBall(p, float(eps[k]), bounds)
            expected = threat.project(moved[k : k + 1], origin[k : k + 1])
            torch.testing.assert_close(found[k : k + 1], expected, atol=1e-7, rtol=0)


@over_untargeted
def test_no_farther_than_pgd_at_any_eps(p: float, make: Callable[[LpBall], MinimumNormAttack], digits_net: Any) -> None:
    """One search fools as many images at each eps as a PGD that knows this eps."""
    model, x, y = digits_net.model, digits_net.test.x[:150], digits_net.test.y[:150]
    radii = {math.inf: (0.06, 0.1, 0.14), 2.0: (0.3, 0.5, 0.7), 1.0: (0.8, 1.4, 2.0)}[p]
    x_adv = make(LpBall(p, 0.1)).smallest(model, x, y)
    distance = LpBall(p, 0.1).distance(x_adv, x).where(fools(model, x_adv, y), torch.inf)
    for eps in radii:
        pgd = bound(LpBall(p, eps), PGD(steps=40, relative_step_size=0.1, loss="margin", random_start=False))
        fooled = fools(model, pgd(model, x, y), y).sum()
        assert 15 < fooled < 135, "an eps at which there is something to compare"
        assert (distance <= eps).sum() >= fooled - 1


@over_untargeted
def test_a_call_gives_back_what_lies_inside_the_threat(
    p: float, make: Callable[[LpBall], MinimumNormAttack], digits_net: Any
) -> None:
    model, x, y = digits_net.model, digits_net.test.x[:80], digits_net.test.y[:80]
    nearest = make(LpBall(p, 0.1)).smallest(model, x, y)
    distance = LpBall(p, 0.1).distance(nearest, x)
    threat = LpBall(p, float(distance.median()))
    x_adv = make(threat)(model, x, y)
    inside = threat.contains(nearest, x)
    assert 30 < inside.sum() < 50
    assert torch.equal(x_adv[inside], nearest[inside])
    assert torch.equal(x_adv[~inside], x[~inside])


@over_untargeted
def test_images_that_are_wrong_already_stay(
    p: float, make: Callable[[LpBall], MinimumNormAttack], conv_model: nn.Module, image_batch: Any
) -> None:
    x, y = image_batch
    wrong = fools(conv_model, x, y)
    assert 0 < wrong.sum() < len(y)
    assert torch.equal(make(LpBall(p, 0.1)).smallest(conv_model, x, y)[wrong], x[wrong])


@over_attacks
@pytest.mark.parametrize("scale", [0.0, 1e-30])
def test_where_nothing_is_found_the_image_comes_back(
    p: float, make: Callable[[LpBall], MinimumNormAttack], scale: float, flat_batch: Any
) -> None:
    """No gradient, or next to none: radii that explode must not turn into NaN."""

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = 1 + scale * x.flatten(1).sum(1)
            return torch.stack([torch.zeros_like(score), score], dim=1)

    x, y = flat_batch.x, torch.ones(8, dtype=torch.long)
    x_adv = make(LpBall(p, 0.1)).smallest(Sure(), x, y)
    assert torch.equal(x_adv, x)
    x_adv.add_(1)
    assert not torch.equal(x_adv, x), "the result shares memory with the images"


def test_a_start_beyond_a_plateau_is_shrunk_to_its_edge() -> None:
    """At the image itself the gradient is zero; the class changes 0.2 away."""

    class Plateau(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = ((x - 0.5).abs().amax(1) - 0.15).clamp_min(0) - 0.05
            return torch.stack([torch.zeros_like(score), score], dim=1)

    x, y = torch.full((3, 4), 0.5), torch.zeros(3, dtype=torch.long)
    start = x.clone()
    start[1:, 0] += torch.tensor([0.45, -0.45])
    fmn, threat = bound(LpBall("inf", 0.1), FMN()), LpBall("inf", 0.1)
    assert torch.equal(fmn.smallest(Plateau(), x, y), x)
    x_adv = fmn.smallest(Plateau(), x, y, start=start)
    assert torch.equal(x_adv[0], x[0])
    assert ((threat.distance(x_adv, x)[1:] - 0.2).abs() < 0.004).all()


@over_untargeted
def test_more_steps_come_nearer(p: float, make: Callable[..., MinimumNormAttack], digits_net: Any) -> None:
    model, x, y = digits_net.model, digits_net.test.x[:80], digits_net.test.y[:80]
    threat = LpBall(p, 0.1)
    few, many = (make(threat, steps=steps).smallest(model, x, y) for steps in (30, 100))
    assert fools(model, many, y).sum() >= fools(model, few, y).sum()
    both = fools(model, few, y) & fools(model, many, y)
    assert threat.distance(many, x)[both].mean() < threat.distance(few, x)[both].mean()


def test_the_target_is_reached(digits_net: Any) -> None:
    model, (x, y) = digits_net
    x_adv = bound(LpBall(2, 0.1), FMN(target=4)).smallest(model, x, y)
    with torch.no_grad():
        assert (model(x_adv).argmax(1) == 4)[y != 4].float().mean() > 0.99
    assert torch.equal(x_adv[y == 4], x[y == 4])


def test_who_is_a_minimum_norm_attack() -> None:
    assert isinstance(FMN(), MinimumNormAttack)
    assert isinstance(DDN(), MinimumNormAttack)
    assert not isinstance(PGD(), MinimumNormAttack)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bound(LpBall(2, 0.1), FMN(steps=0)), "steps"),
        (lambda: bound(LpBall(2, 0.1), FMN(relative_step_size=0)), "relative_step_size"),
        (lambda: bound(LpBall(2, 0.1), FMN(eps_step=1.0)), "eps_step"),
        (lambda: bound(SparseBall(3), FMN()), "Lp threat"),
        (lambda: bound(LpBall("inf", 0.1), DDN()), "Linf; use FMN"),
        (lambda: bound(SparseBall(3), DDN()), "L2 attack"),
        (lambda: bound(LpBall(2, 0.1), DDN(steps=0)), "steps"),
        (lambda: bound(LpBall(2, 0.1), DDN(first_eps=0.0)), "first_eps"),
        (lambda: bound(LpBall(2, 0.1), DDN(eps_step=0)), "eps_step"),
    ],
)
def test_wrong_settings_are_refused_at_once(make: Callable[[], Attack], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()
