"""Attacks against what is known without them: closed forms, published formulas, and a second implementation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchattacks
from bound import bound
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, FGSMRS, MIFGSM, PGD, Goal
from robustml.attacks.engine.losses import adversarial_lead, cross_entropy, difference_of_logits_ratio
from robustml.threats import LpBall
from robustml.types import Attack

ORDERS = [math.inf, 2.0, 1.0]
DUAL = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}


class Plane(nn.Module):
    """Class 1 on one side of the plane weight . x + bias = 0, class 0 on the other, and `more` classes far below."""

    def __init__(self, weight: Tensor, bias: float, more: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias, self.more = bias, more

    def score(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight + self.bias

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        zero = torch.zeros_like(score)
        return torch.stack([zero, score] + [zero - 50 - k for k in range(self.more)], dim=1)


REACHING: dict[str, Callable[[LpBall], Attack]] = {
    "fgsm": lambda threat: bound(threat, FGSM()),
    "fgsm-margin": lambda threat: bound(threat, FGSM(loss="margin")),
    "bim": lambda threat: bound(threat, PGD(steps=5, random_start=False)),
    "bim-target": lambda threat: bound(threat, PGD(steps=5, random_start=False, target="runner_up")),
    "bim-early_stop": lambda threat: bound(threat, PGD(steps=30, random_start=False, early_stop=True)),
    "pgd": lambda threat: bound(threat, PGD(steps=30, relative_step_size=1.0)),
    "pgd-margin": lambda threat: bound(threat, PGD(steps=30, relative_step_size=1.0, loss="margin")),
    "pgd-dlr": lambda threat: bound(threat, PGD(steps=30, relative_step_size=1.0, loss="dlr")),
    "pgd-target": lambda threat: bound(
        threat, PGD(steps=30, relative_step_size=1.0, target="least_likely", loss="margin")
    ),
    "pgd-restarts": lambda threat: bound(threat, PGD(steps=30, relative_step_size=1.0, restarts=2, early_stop=True)),
    "mifgsm": lambda threat: bound(threat, MIFGSM(steps=5)),
    "fgsmrs": lambda threat: bound(threat, FGSMRS(relative_step_size=100)),
}


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("make", REACHING.values(), ids=REACHING)
def test_the_smallest_perturbation_of_a_plane(make: Callable[[LpBall], Attack], p: float) -> None:
    """|weight . x + bias| over the dual norm of the weight: a little more fools, a little less does not."""
    generator = Generator().manual_seed(20)
    weight = torch.randn(10, generator=generator, dtype=torch.float64)
    more = 2 if "dlr" in repr(make(LpBall(p, 0.1))) else 0
    model = Plane(weight, 0.3, more)
    for x in torch.randn(4, 1, 10, generator=generator, dtype=torch.float64) * 0.3:
        y = (model.score(x) > 0).long()
        smallest = float(model.score(x).detach().abs() / torch.linalg.vector_norm(weight.detach(), ord=DUAL[p]))
        for factor, fools in ((1.001, True), (0.999, False)):
            attack = make(LpBall(p, smallest * factor, bounds=(-100, 100)))
            x_adv = attack(model, x, y, generator=Generator().manual_seed(1))
            assert bool(model(x_adv).argmax(1) != y) == fools, f"eps = {factor} of the closed form"


def test_the_box_takes_part_of_the_budget_away() -> None:
    """One pixel has no room to move: what an L1 attacker can reach is known by hand."""
    model = Plane(torch.tensor([5.0, 1.0, 0.5], dtype=torch.float64), 0.0)
    x, y = torch.tensor([[0.1, 0.5, 0.5]], dtype=torch.float64), torch.tensor([1])
    expected = torch.tensor([[0.0, 0.3, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(bound(LpBall(1, 0.3), FGSM())(model, x, y), expected, atol=1e-9, rtol=0)
    # The last of many steps spills over, and the projection takes it back from all that moved.
    x_adv = bound(LpBall(1, 0.3), PGD(steps=32, step_size=0.01, random_start=False))(model, x, y)
    torch.testing.assert_close(x_adv, expected, atol=0.01, rtol=0)


def test_fgsm_by_hand() -> None:
    weight = torch.tensor([2.0, -1.0, 0.0, 0.5])
    model, x = Plane(weight, 0.0), torch.tensor([[0.5, 0.5, 0.5, 0.95], [0.05, 0.98, 0.3, 0.5]])
    for label, direction in ((0, 1.0), (1, -1.0)):
        x_adv = bound(LpBall("inf", 0.1), FGSM())(model, x, torch.tensor([label, label]))
        expected = (x + direction * 0.1 * torch.tensor([1.0, -1.0, 0.0, 1.0])).clamp(0, 1)
        torch.testing.assert_close(x_adv, expected, atol=1e-7, rtol=0)
    l2 = bound(LpBall(2, 0.1), FGSM())(model, x[:1], torch.tensor([1]))
    torch.testing.assert_close(l2, x[:1] - 0.1 * weight / math.sqrt(5.25), atol=1e-6, rtol=0)


def test_fgsmrs_starts_outside_the_box_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wong et al. do not clip the start on MNIST: here the gradient has the other sign outside the box."""

    class Tent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = (x.flatten(1) - 1.05).abs().sum(1)
            return torch.stack([torch.zeros_like(score), score], dim=1)

    noise = torch.full((1, 4), 0.1)
    monkeypatch.setattr(
        torch.Tensor, "uniform_", lambda self, low=0.0, high=1.0, generator=None: self.copy_(noise), raising=True
    )
    x, y = torch.ones(1, 4), torch.tensor([0])
    for clip_start, expected in ((False, 1.0), (True, 0.9)):
        x_adv = bound(LpBall("inf", 0.2), FGSMRS(step_size=0.1, clip_start=clip_start))(Tent(), x, y)
        torch.testing.assert_close(x_adv, torch.full((1, 4), expected))


LOGITS = [
    [1.0, 3.0, 2.0, 0.0, -1.0],
    [4.0, 1.5, -2.0, 3.5, 0.0],
    [0.1, 0.2, 0.3, 0.4, 0.5],
    [-3.0, -1.0, -2.0, -7.0, -1.5],
]
LABELS = [0, 0, 4, 3]
TARGETS = [2, 3, 0, 1]


def test_losses_by_hand() -> None:
    """The first row of LOGITS, on paper."""
    logits, y, target = torch.tensor(LOGITS[:1], dtype=torch.float64), torch.tensor([0]), torch.tensor([2])
    assert adversarial_lead(logits, Goal(y)).item() == 2.0
    assert adversarial_lead(logits, Goal(y, target)).item() == -1.0
    assert difference_of_logits_ratio(logits, Goal(y)).item() == pytest.approx(2 / (3 - 1))
    assert difference_of_logits_ratio(logits, Goal(y, target)).item() == pytest.approx(1 / (3 - (1 + 0) / 2))
    total = math.exp(1) + math.exp(3) + math.exp(2) + 1 + math.exp(-1)
    assert cross_entropy(logits, Goal(y)).item() == pytest.approx(math.log(total) - 1)
    assert cross_entropy(logits, Goal(y, target)).item() == pytest.approx(2 - math.log(total))


def test_losses_are_the_published_formulas() -> None:
    logits, y, target = torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(LABELS), torch.tensor(TARGETS)
    computed = {
        "ce": cross_entropy(logits, Goal(y)),
        "ce targeted": cross_entropy(logits, Goal(y, target)),
        "margin": adversarial_lead(logits, Goal(y)),
        "margin targeted": adversarial_lead(logits, Goal(y, target)),
        "dlr": difference_of_logits_ratio(logits, Goal(y)),
        "dlr targeted": difference_of_logits_ratio(logits, Goal(y, target)),
    }
    for row, (z, label, aim) in enumerate(zip(LOGITS, LABELS, TARGETS, strict=True)):
        pi = sorted(z, reverse=True)
        total = math.log(sum(math.exp(value) for value in z))
        expected = {
            "ce": -(z[label] - total),
            "ce targeted": z[aim] - total,
            # Carlini & Wagner 2017, f6: (max_{i != t} Z_i - Z_t)+, here to be climbed and without the floor.
            "margin": max(z[k] for k in range(5) if k != label) - z[label],
            "margin targeted": -(max(z[k] for k in range(5) if k != aim) - z[aim]),
            # Croce & Hein 2020, equations 6 and 7.
            "dlr": -(z[label] - max(z[k] for k in range(5) if k != label)) / (pi[0] - pi[2]),
            "dlr targeted": -(z[label] - z[aim]) / (pi[0] - (pi[2] + pi[3]) / 2),
        }
        for name, value in expected.items():
            assert computed[name][row].item() == pytest.approx(value, abs=1e-9), name


def test_dlr_does_not_see_the_scale_of_the_logits() -> None:
    logits, y, target = torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(LABELS), torch.tensor(TARGETS)
    for goal in (Goal(y), Goal(y, target)):
        expected = difference_of_logits_ratio(logits, goal)
        torch.testing.assert_close(difference_of_logits_ratio(1000 * logits + 7, goal), expected, atol=1e-8, rtol=0)


def plain_pgd(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, step: float, steps: int) -> Tensor:
    x_adv = start.clone()
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        nn.CrossEntropyLoss()(model(x_adv), y).backward()
        assert x_adv.grad is not None
        x_adv = x_adv.detach() + step * torch.sign(x_adv.grad)
        x_adv = torch.max(torch.min(x_adv, x + eps), x - eps)
        x_adv = torch.clamp(x_adv, 0.0, 1.0)
    return x_adv.detach()


def start_at(monkeypatch: pytest.MonkeyPatch, start: Tensor) -> None:
    monkeypatch.setattr(LpBall, "sample", lambda self, x, generator=None, boxed=True: start)


def test_pgd_against_ten_plain_lines(conv_model: nn.Module, image_batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = conv_model.double(), image_batch
    x = x.double()
    start = (x + 0.1 * (2 * torch.rand(x.shape, generator=Generator().manual_seed(3)).double() - 1)).clamp(0, 1)
    start_at(monkeypatch, start)
    x_adv = bound(LpBall("inf", 0.1), PGD(steps=7, step_size=0.03))(model, x, y)
    torch.testing.assert_close(x_adv, plain_pgd(model, x, y, start, 0.1, 0.03, 7), atol=1e-6, rtol=0)
    assert (x_adv - start).abs().max() > 0.05


# Batches of 8: the package's mean over the batch then scales gradients by a power of two, and rounds nothing.
TWINS: dict[str, tuple[Attack, Callable[[nn.Module], Any]]] = {
    "FGSM": (bound(LpBall("inf", 0.07), FGSM()), lambda model: torchattacks.FGSM(model, eps=0.07)),
    "BIM": (
        bound(LpBall("inf", 0.1), PGD(steps=6, step_size=0.025, random_start=False)),
        lambda model: torchattacks.BIM(model, eps=0.1, alpha=0.025, steps=6),
    ),
    "PGD": (
        bound(LpBall("inf", 0.1), PGD(steps=8, step_size=0.02, random_start=False)),
        lambda model: torchattacks.PGD(model, eps=0.1, alpha=0.02, steps=8, random_start=False),
    ),
    "MIFGSM": (
        bound(LpBall("inf", 0.1), MIFGSM(steps=6, step_size=0.02, decay=0.9)),
        lambda model: torchattacks.MIFGSM(model, eps=0.1, alpha=0.02, steps=6, decay=0.9),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), TWINS.values(), ids=TWINS)
def test_the_same_images_as_torchattacks(
    ours: Attack, theirs: Callable[[nn.Module], Any], conv_model: nn.Module, image_batch: Any
) -> None:
    x, y = image_batch
    expected = theirs(conv_model)(x, y)
    assert not torch.equal(expected, x)
    torch.testing.assert_close(ours(conv_model, x, y), expected, atol=1e-5, rtol=0)


def test_the_same_images_as_torchattacks_pgdl2_away_from_the_box(conv_model: nn.Module, image_batch: Any) -> None:
    """The package clips after it projects, which is another set on the edge of the box: hence images in its middle."""
    x, y = image_batch.x * 0.2 + 0.4, image_batch.y
    expected = torchattacks.PGDL2(conv_model, eps=0.3, alpha=0.1, steps=8, random_start=False)(x, y)
    ours = bound(LpBall(2, 0.3), PGD(steps=8, step_size=0.1, random_start=False))(conv_model, x, y)
    assert expected.min() > 0
    assert expected.max() < 1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_the_same_images_as_torchattacks_ffgsm_from_the_same_noise(
    conv_model: nn.Module, image_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = image_batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        noise = torch.randn_like(x).uniform_(-0.1, 0.1)
        torch.manual_seed(8)
        expected = torchattacks.FFGSM(conv_model, eps=0.1, alpha=0.125)(x, y)
    start_at(monkeypatch, (x + noise).clamp(0, 1))
    ours = bound(LpBall("inf", 0.1), FGSMRS(clip_start=True))(conv_model, x, y)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


PAIRS: dict[str, tuple[Attack, Callable[[nn.Module], Any]]] = {
    "FGSM": (bound(LpBall("inf", 0.1), FGSM()), lambda model: torchattacks.FGSM(model, eps=0.1)),
    "FFGSM": (
        bound(LpBall("inf", 0.1), FGSMRS(clip_start=True)),
        lambda model: torchattacks.FFGSM(model, eps=0.1, alpha=0.125),
    ),
    "PGD": (
        bound(LpBall("inf", 0.1), PGD(steps=20, step_size=0.02)),
        lambda model: torchattacks.PGD(model, eps=0.1, alpha=0.02, steps=20),
    ),
    "PGDL2": (
        bound(LpBall(2, 0.7), PGD(steps=20, step_size=0.1)),
        lambda model: torchattacks.PGDL2(model, eps=0.7, alpha=0.1, steps=20),
    ),
    "MIFGSM": (
        bound(LpBall("inf", 0.1), MIFGSM(steps=10, step_size=0.02)),
        lambda model: torchattacks.MIFGSM(model, eps=0.1, alpha=0.02, steps=10),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS)
def test_no_weaker_than_torchattacks(ours: Attack, theirs: Callable[[nn.Module], Any], digits_net: Any) -> None:
    model, (x, y) = digits_net

    def robust_accuracy(x_adv: Tensor) -> float:
        with torch.no_grad():
            return (model(x_adv).argmax(1) == y).float().mean().item()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        expected = robust_accuracy(theirs(model)(x, y))
    achieved = robust_accuracy(ours(model, x, y, generator=Generator().manual_seed(9)))
    assert 0.02 < expected < 0.95, "an eps at which there is something to compare"
    # The two attack the same images, so that only the few on which they disagree are chance.
    assert achieved <= expected + 0.02
