"""KLPGD where the way up is known in closed form, and against another implementation; the Gaussian starts of PGD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchattacks
from bound import bound
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks import KLPGD, PGD
from robustml.draws import Draws
from robustml.threats import LpBall


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


@pytest.fixture
def two_classes(linear_model: nn.Module) -> nn.Module:
    """The first two classes of the linear model."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    model[1].weight.data = linear_model[1].weight.data[:2]
    return model


def test_between_two_classes_of_a_linear_model_the_first_noise_decides(two_classes: nn.Module, flat_batch: Any) -> None:
    """The divergence grows with the distance from the clean margin, so the climb goes on along the noise's side of it:

    x + eps sign(noise . w) sign(w), and inside the box.
    """
    x, y = flat_batch
    weight = two_classes[1].weight.detach()
    direction = weight[1] - weight[0]
    # In the image's noise, as an evaluation draws it.
    noise = Draws.of(x, Generator().manual_seed(7)).normal(12)
    side = (noise @ direction).sign()
    assert {-1.0, 1.0} == set(side.tolist())
    expected = (x + 0.2 * side[:, None] * direction.sign()).clamp(0, 1)
    x_adv = bound(LpBall("inf", 0.2), KLPGD(steps=10))(two_classes, x, y, generator=Generator().manual_seed(7))
    torch.testing.assert_close(x_adv, expected, atol=1e-6, rtol=0)


def test_in_l2_the_climb_follows_the_weights(two_classes: nn.Module, flat_batch: Any) -> None:
    x = 0.3 + 0.4 * flat_batch.x
    weight = two_classes[1].weight.detach()
    direction = functional.normalize(weight[1] - weight[0], dim=0)
    x_adv = bound(LpBall(2, 0.25), KLPGD(steps=20))(two_classes, x, flat_batch.y)
    delta = x_adv - x
    torch.testing.assert_close(delta.norm(dim=1), torch.full((8,), 0.25), atol=1e-5, rtol=0)
    # What is left of the noise across the weights is some 0.003 to begin with.
    torch.testing.assert_close((delta @ direction).abs(), torch.full((8,), 0.25), atol=1e-3, rtol=0)


def test_another_implementation_finds_the_same(digits_net: Any) -> None:
    """torchattacks' TPGD, from the same draws; away from the box, for it clips the start."""
    model, x = digits_net.model, 0.1 + 0.8 * digits_net.test.x[:40]
    torch.manual_seed(5)
    theirs = torchattacks.TPGD(model, eps=0.08, alpha=0.02, steps=6)(x)
    torch.manual_seed(5)
    ours = bound(LpBall("inf", 0.08), KLPGD(steps=6, step_size=0.02))(model, x, digits_net.test.y[:40])
    same = (ours - theirs).abs().flatten(1).amax(1) < 1e-5
    # A pixel whose gradient is zero but for rounding may go either way.
    assert same.float().mean() > 0.9


def test_the_divergence_rises_with_steps_and_beats_noise(digits_net: Any) -> None:
    model, x, y = digits_net.model, digits_net.test.x[:100], digits_net.test.y[:100]
    threat = LpBall("inf", 0.1)

    def divergence(x_adv: Tensor) -> float:
        with torch.no_grad():
            p, q = model(x).softmax(1), model(x_adv).softmax(1)
        return float((p * (p / q).log()).sum(1).mean())

    few, many = (divergence(bound(threat, KLPGD(steps=steps))(model, x, y)) for steps in (1, 10))
    corner = divergence((x + 0.1 * torch.randn_like(x).sign()).clamp(0, 1))
    assert many > few > corner
    assert many > 2 * corner


def test_labels_are_ignored(conv_model: nn.Module, image_batch: Any) -> None:
    attack = bound(LpBall("inf", 0.1), KLPGD(steps=3))
    results = [
        attack(conv_model, image_batch.x, y, generator=Generator().manual_seed(1))
        for y in (image_batch.y, (image_batch.y + 1) % 5)
    ]
    assert torch.equal(*results)


def test_the_clean_prediction_is_computed_once(conv_model: nn.Module, image_batch: Any) -> None:
    passes: list[int] = []
    conv_model.register_forward_hook(lambda model, inputs, _: passes.append(len(inputs[0])))
    bound(LpBall("inf", 0.1), KLPGD(steps=4))(conv_model, *image_batch)
    assert len(passes) == 5


def test_another_seed_starts_elsewhere(conv_model: nn.Module, image_batch: Any) -> None:
    attack = bound(LpBall("inf", 0.1), KLPGD(steps=1))
    first, other = (attack(conv_model, *image_batch, generator=Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.equal(first, other)


class Remember(nn.Linear):
    """A linear model that keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__(12, 3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return super().forward(x)


@pytest.mark.parametrize("attack", ["pgd", "pgd-clipped", "kl_pgd"])
def test_gaussian_starts_have_the_deviation_asked_for(attack: str) -> None:
    """Of both: the first gradient is taken at x + deviation * N(0, 1), outside of the box too unless clipped."""
    model, threat = Remember(), LpBall("inf", 0.5)
    x, y = torch.zeros(400, 12), torch.zeros(400, dtype=torch.long)
    x[200:] = 0.5
    # No two alike, lest a generator give them the same noise.
    x[:, 0] += torch.arange(400) * 1e-6
    attacks = {
        "pgd": bound(threat, PGD(steps=1, start_noise=0.02, clip_start=False)),
        "pgd-clipped": bound(threat, PGD(steps=1, start_noise=0.02)),
        "kl_pgd": bound(threat, KLPGD(steps=1, start_noise=0.02)),
    }
    for generator in (None, Generator().manual_seed(2)):
        model.seen.clear()
        attacks[attack](model, x, y, generator=generator)
        noise = (model.seen[-1] - x)[:, 1:]
        assert noise[200:].std().item() == pytest.approx(0.02, rel=0.05)
        assert noise[200:].mean().abs() < 0.002
        below = (noise[:200] < 0).float().mean().item()
        assert below == (0 if attack == "pgd-clipped" else pytest.approx(0.5, abs=0.05))


def test_a_wide_gaussian_start_is_projected(linear_model: nn.Module, flat_batch: Any) -> None:
    model, threat = Remember(), LpBall(2, 0.1)
    bound(threat, PGD(steps=1, start_noise=1.0))(model, flat_batch.x, flat_batch.y % 3)
    assert threat.contains(model.seen[0], flat_batch.x).all()
