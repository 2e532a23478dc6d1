"""Each flag is raised by a defense that is broken in its way, and by no sound model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks import FGSM, PGD
from robustml.evaluation import AttackVerdicts, Verdicts
from robustml.evaluation.sanity.model import Flag, look_at_limits, look_at_model
from robustml.evaluation.sanity.rivals import look_at_attacks
from robustml.models import DigitsCNN
from robustml.threats import LpBall
from robustml.types import Attack, Threat

THREAT = LpBall("inf", 0.1)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(data.target)
    return x[:900], y[:900], x[900:1100], y[900:1100]


def trained_cnn(start: nn.Module | None = None, attack: Attack | None = None) -> nn.Module:
    x, y, _, _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DigitsCNN(width=8) if start is None else copy.deepcopy(start)
        momentum = [torch.zeros_like(parameter) for parameter in model.parameters()]
        for step in range(135):
            batch = slice(100 * (step % 9), 100 * (step % 9) + 100)
            images = x[batch] if attack is None else attack(model, x[batch], y[batch], THREAT)
            loss = functional.cross_entropy(model(images), y[batch])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for parameter, gradient, velocity in zip(model.parameters(), gradients, momentum, strict=True):
                velocity.mul_(0.9).add_(gradient)
                parameter.data -= 0.08 * velocity
    return model.eval()


@pytest.fixture(scope="module")
def standard() -> nn.Module:
    return trained_cnn()


@pytest.fixture(scope="module")
def robust(standard: nn.Module) -> nn.Module:
    return trained_cnn(standard, PGD(steps=2))


def raised(model: nn.Module) -> set[str]:
    """Flags that a model raises without any attack of the evaluation."""
    _, _, x, y = digits()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        logits = model(x)
        flags = look_at_model(model, x, y, logits)
        return {flag.name for flag in flags + look_at_limits(model, x, y, THREAT)}


class Before(nn.Module):
    """A defense that prepares the images for `inner`."""

    def __init__(self, inner: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.prepare = inner, prepare

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(self.prepare(x))
        return logits


class After(Before):
    """A defense that changes the logits of `inner`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.prepare(self.inner(x))


def floored(x: Tensor) -> Tensor:
    """Eight levels of grey."""
    return (x * 7.999).floor() / 7


def rippled(x: Tensor) -> Tensor:
    """Small to the eye, and with a slope of 100 in a direction that changes within a thousandth."""
    return x + 0.01 * torch.sin(1e4 * x)


def resized(x: Tensor) -> Tensor:
    """Xie et al. 2018: shrunk to a random size, padded at random."""
    size = int(torch.randint(5, 9, (1,)))
    small = functional.interpolate(x, size=(size, size))
    left = int(torch.randint(0, 9 - size, (1,)))
    return functional.pad(small, (left, 8 - size - left, 8 - size, 0))


def detached(x: Tensor) -> Tensor:
    return torch.from_numpy(np.clip(x.detach().numpy(), 0, 1))


BROKEN: dict[str, tuple[Callable[[nn.Module], nn.Module], set[str]]] = {
    "eight levels of grey": (lambda inner: Before(inner, floored), {"zero_gradients", "unbounded_attack_fails"}),
    "ripples": (lambda inner: Before(inner, rippled), {"shattered_gradients"}),
    "random resizing": (lambda inner: Before(inner, resized), {"random_outputs"}),
    "logits x 10,000": (
        lambda inner: After(inner, lambda logits: 1e4 * logits),
        {"zero_gradients", "saturated_logits", "unbounded_attack_fails"},
    ),
    "softmax": (lambda inner: After(inner, lambda logits: logits.softmax(1)), {"probabilities"}),
    "NumPy": (lambda inner: Before(inner, detached), {"no_gradients"}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_defense_raises_its_flag(case: str, standard: nn.Module) -> None:
    defend, expected = BROKEN[case]
    found = raised(defend(standard))
    assert expected <= found
    own = {"zero_gradients", "shattered_gradients", "random_outputs", "saturated_logits", "probabilities"}
    assert found & own == expected & own, "and no other defense's"


@pytest.mark.parametrize("name", ["standard", "robust"])
def test_a_sound_model_raises_none(name: str, request: pytest.FixtureRequest) -> None:
    model: nn.Module = request.getfixturevalue(name)
    _, _, x, y = digits()
    with torch.no_grad():
        assert (model(x).argmax(1) == y).float().mean() > 0.8
    assert raised(model) == set()


def test_the_robust_model_is_robust(standard: nn.Module, robust: nn.Module) -> None:
    """Otherwise it would be no second kind of sound model."""
    _, _, x, y = digits()
    attack = PGD(steps=10)
    left = [float((model(attack(model, x, y, THREAT)).argmax(1) == y).float().mean()) for model in (standard, robust)]
    assert left[1] > left[0] + 0.15


def test_a_net_that_is_dense_raises_none_either(digits_net: Any) -> None:
    model, (x, y) = digits_net
    with torch.no_grad():
        logits = model(x)
    assert look_at_model(model, x, y, logits) == []
    for threat in (THREAT, LpBall(2, 1.0), LpBall(1, 5.0)):
        assert look_at_limits(model, x, y, threat) == []


def test_looking_leaves_the_model_and_the_random_state_as_found(conv_model: nn.Module, image_batch: Any) -> None:
    x, y = image_batch
    with torch.no_grad():
        logits = conv_model(x)
    y = logits.argmax(1)
    state = {name: tensor.clone() for name, tensor in conv_model.state_dict().items()}
    generator = torch.get_rng_state()
    look_at_model(conv_model, x, y, logits)
    look_at_limits(conv_model, x, y, THREAT, Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, state[name]) for name, tensor in conv_model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in conv_model.parameters())
    assert not x.requires_grad


def test_the_limits_are_those_of_the_box() -> None:
    """A model that only a change of nearly the whole box turns: an eps that is smaller would not do."""

    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.flatten(1).mean(1)
            return torch.stack([0.97 - total, total - 0.97], dim=1)

    x, y = torch.full((20, 1, 4, 4), 0.02), torch.zeros(20, dtype=torch.long)
    for p in (math.inf, 2, 1):
        assert look_at_limits(Sum(), x, y, LpBall(p, 0.1)) == []

    class Stubborn(Sum):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.tensor([0.1, -0.1])

    (flag,) = look_at_limits(Stubborn(), x, y, LpBall("inf", 0.1))
    assert flag.name == "unbounded_attack_fails"
    assert "100% of 20 images" in flag.message


def test_the_box_is_that_of_any_threat(digits_net: Any) -> None:
    class Other:
        eps, bounds = 0.1, (0.0, 1.0)

    model, (x, y) = digits_net
    other: Threat = Other()  # type: ignore[assignment]
    assert look_at_limits(model, x, y, other) == []
    assert [flag.name for flag in look_at_limits(Before(model, floored), x, y, other)] == ["unbounded_attack_fails"]


def test_of_images_that_are_all_wrong_nothing_is_said(digits_net: Any) -> None:
    broken, (x, _) = Before(digits_net.model, floored), digits_net.test
    with torch.no_grad():
        logits = broken(x)
    wrong = (logits.argmax(1) + 1) % 10
    assert look_at_limits(broken, x, wrong, THREAT) == []
    assert look_at_model(broken, x, wrong, logits) == []


class BlackBox:
    black_box = True


def attacked(**robust: list[int]) -> Verdicts:
    """100 images, and the numbers of those that each attack fooled."""
    zeros = np.zeros(100, dtype=np.int64)
    attacks = {}
    for name, fooled in robust.items():
        mask = np.ones(100, dtype=bool)
        mask[fooled] = False
        attacks[name] = AttackVerdicts(mask, np.zeros(100), mask)
    return Verdicts(zeros, zeros, attacks)


@pytest.mark.parametrize(
    ("square", "pgd", "apgd", "flagged"),
    [
        (range(10), range(0), range(0), True),
        (range(9), range(0), range(0), False),
        (range(10), range(5), range(5, 10), False),
        (range(30), range(5), range(40, 47), True),
        (range(30), range(5), range(40, 60), False),
    ],
)
def test_black_box_is_held_against_all_white_boxes_together(
    square: range, pgd: range, apgd: range, flagged: bool
) -> None:
    verdicts = attacked(square=list(square), pgd=list(pgd), apgd=list(apgd))
    attacks: dict[str, Any] = {"square": BlackBox(), "pgd": PGD(), "apgd": PGD()}
    found = list(look_at_attacks(verdicts, attacks))
    assert [(flag.name, flag.attack) for flag in found] == [("black_box_beats_white_box", "square")] * flagged


@pytest.mark.parametrize(
    ("pgd", "square", "flagged"),
    [
        (range(10), range(10, 12), True),
        (range(10), range(10, 11), False),
        (range(10), range(10), False),  # of these PGD had left none
        (range(0), range(0), False),
    ],
)
def test_what_a_black_box_adds_in_a_cascade(pgd: range, square: range, flagged: bool) -> None:
    attacks: dict[str, Any] = {"pgd": PGD(), "square": BlackBox()}
    found = list(look_at_attacks(attacked(pgd=list(pgd), square=list(square)), attacks, cascade=True))
    assert [(flag.name, flag.attack) for flag in found] == [("black_box_beats_white_box", "square")] * flagged
    first = dict(reversed(attacks.items()))
    assert list(look_at_attacks(attacked(pgd=list(pgd), square=list(square)), first, cascade=True)) == []


def test_black_boxes_alone_are_compared_with_nothing() -> None:
    attacks: dict[str, Any] = {"square": BlackBox(), "noise": BlackBox()}
    assert list(look_at_attacks(attacked(square=list(range(50)), noise=[]), attacks)) == []


def test_what_cannot_be_compared_is_not() -> None:
    attacks: dict[str, Any] = {"square": BlackBox(), "pgd": PGD(), "fgsm": FGSM()}
    verdicts = attacked(square=list(range(50)), pgd=[], fgsm=list(range(50)))
    assert {flag.name for flag in look_at_attacks(verdicts, attacks)} == {"one_step_beats_many"}
    verdicts.attacks["pgd"].pending = 100
    assert list(look_at_attacks(verdicts, attacks)) == []


def test_a_white_box_attack_that_a_quantising_model_blinds_loses_to_noise(standard: nn.Module) -> None:
    """The flag on a real defense, not on made-up verdicts."""
    model, (_, _, x, y) = Before(standard, floored), digits()
    ball = LpBall("inf", 0.5)
    fooled: dict[str, list[int]] = {}
    with torch.no_grad():
        right = model(x).argmax(1) == y
        noise = ball.sample(x, Generator().manual_seed(0))
        for name, x_adv in (("fgsm", FGSM()(model, x, y, THREAT)), ("noise", noise)):
            fooled[name] = (right & (model(x_adv).argmax(1) != y))[:100].nonzero().squeeze(1).tolist()
    attacks: dict[str, Any] = {"noise": BlackBox(), "fgsm": FGSM()}
    (flag,) = look_at_attacks(attacked(**fooled), attacks)
    assert isinstance(flag, Flag)
    assert flag.name == "black_box_beats_white_box"
