"""Adversarial logit pairing against the published loss, written out entry by entry."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import PGD
from robustml.errors import RequestError
from robustml.objectives import LogitPairing
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.1)


def nothing(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
    return x


@pytest.fixture
def pair(flat_batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Images, other images, labels; in double precision."""
    x = flat_batch.x.double()
    return x, (x + 0.4 * torch.sin(40 * x)).clamp(0, 1), flat_batch.y


@pytest.mark.parametrize("labels", ["hard", "smooth", "mixed"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 10.0])
def test_the_loss_and_its_gradient_are_the_published_ones(
    weight: float, labels: str, linear_model: nn.Module, pair: tuple[Tensor, Tensor, Tensor]
) -> None:
    (x, x_adv, y), model = pair, linear_model.double()
    targets = torch.eye(5, dtype=torch.float64)[y]
    given, smoothing = y, 0.0
    if labels == "smooth":
        smoothing, targets = 0.1, 0.9 * targets + 0.02
    elif labels == "mixed":
        given = targets = 0.75 * targets + 0.25 * targets.flip(0)
    expected = torch.zeros((), dtype=torch.float64)
    for row, moved, target in zip(model(x), model(x_adv), targets, strict=True):
        for k in range(5):
            for logits in (row, moved):
                expected = expected - target[k] * (logits[k] - logits.exp().sum().log()) / 16
            expected = expected + weight * (row[k] - moved[k]) ** 2 / 40
    output = LogitPairing(nothing, weight=weight, label_smoothing=smoothing).loss(model, x, x_adv, given, THREAT)
    torch.testing.assert_close(output.loss, expected, atol=1e-9, rtol=1e-9)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(output.loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(output.logits, model(x_adv))
    assert output.logs["clean_accuracy"] == (model(x).argmax(1) == y).double().mean()
    assert output.logs["adversarial_accuracy"] == (model(x_adv).argmax(1) == y).double().mean()


def test_both_halves_are_one_batch(conv_model: nn.Module, image_batch: Any) -> None:
    sizes: list[int] = []
    conv_model.train().register_forward_hook(lambda model, inputs, _: sizes.append(len(inputs[0])))
    LogitPairing(nothing).loss(conv_model, image_batch.x, 1 - image_batch.x, image_batch.y, THREAT)
    assert sizes == [16]


def test_a_mixture_is_attacked_at_its_largest_class(linear_model: nn.Module, flat_batch: Any) -> None:
    attack = PGD(steps=2, random_start=False)
    mixed = 0.75 * torch.eye(5)[flat_batch.y] + 0.05
    found = LogitPairing(attack).perturb(linear_model, flat_batch.x, mixed, THREAT)
    assert torch.equal(found, attack(linear_model, flat_batch.x, flat_batch.y, THREAT))


def test_examples_are_crafted_in_the_mode_asked_for(conv_model: nn.Module, image_batch: Any) -> None:
    modes: list[bool] = []

    def look(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        modes.append(model[1].training)  # type: ignore[index, arg-type]
        return x

    conv_model.train()
    for mode in ("eval", "train"):
        LogitPairing(look, attack_mode=mode).perturb(conv_model, *image_batch, THREAT)
    assert modes == [False, True]


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(RequestError, match="weight"):
        LogitPairing(nothing, weight=-1)
