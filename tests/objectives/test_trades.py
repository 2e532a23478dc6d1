"""TRADES against the published loss, written out row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import KLPGD
from robustml.errors import RequestError
from robustml.objectives import TRADES
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.1)


def nothing(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
    return x


def published(clean: Tensor, adversarial: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Equation 5 of the paper with the divergence as its code takes it: KL(clean || adversarial), batch averages."""
    total = torch.zeros((), dtype=clean.dtype)
    for row, moved, target in zip(clean, adversarial, targets, strict=True):
        p, q = row.exp() / row.exp().sum(), moved.exp() / moved.exp().sum()
        for k in range(len(row)):
            total = total - target[k] * torch.log(p[k]) + beta * p[k] * torch.log(p[k] / q[k])
    return total / len(clean)


def targets_of(y: Tensor, smoothing: float = 0.0) -> Tensor:
    return (1 - smoothing) * torch.eye(5, dtype=torch.float64)[y] + smoothing / 5


def assert_equal_with_gradients(found: Tensor, expected: Tensor, model: nn.Module) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.fixture
def pair(flat_batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Images, other images, labels; in double precision."""
    x = flat_batch.x.double()
    return x, (x + 0.4 * torch.sin(40 * x)).clamp(0, 1), flat_batch.y


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_the_loss_and_its_gradient_are_the_published_ones(
    beta: float, smoothing: float, linear_model: nn.Module, pair: tuple[Tensor, Tensor, Tensor]
) -> None:
    (x, x_adv, y), model = pair, linear_model.double()
    output = TRADES(nothing, beta=beta, label_smoothing=smoothing).loss(model, x, x_adv, y, THREAT)
    expected = published(model(x), model(x_adv), targets_of(y, smoothing), beta)
    assert_equal_with_gradients(output.loss, expected, model)
    assert torch.equal(output.logits, model(x_adv))
    assert output.logs["clean_accuracy"] == (model(x).argmax(1) == y).double().mean()
    assert output.logs["adversarial_accuracy"] == (model(x_adv).argmax(1) == y).double().mean()


def test_the_clean_branch_is_not_detached(linear_model: nn.Module, pair: tuple[Tensor, Tensor, Tensor]) -> None:
    """What the oracle above would also miss if it were wrong in the same way: bias gradients in closed form.

    For KL(p || q), the gradient with respect to the adversarial logits is q - p, and with respect to the clean ones
    p (log p/q - KL); both add up in the bias.
    """
    (x, x_adv, y), model = pair, linear_model.double()
    loss = TRADES(nothing, beta=1.0).loss(model, x, x_adv, y, THREAT).loss
    (found,) = torch.autograd.grad(loss, model[1].bias)
    with torch.no_grad():
        p, q = model(x).softmax(1), model(x_adv).softmax(1)
        ratio = (p / q).log()
        through_clean = p * (ratio - (p * ratio).sum(1, keepdim=True))
        expected = (p - targets_of(y) + (q - p) + through_clean).mean(0)
    assert through_clean.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_a_mixture_of_labels_is_weighed(linear_model: nn.Module, pair: tuple[Tensor, Tensor, Tensor]) -> None:
    (x, x_adv, y), model = pair, linear_model.double()
    mixed = 0.7 * targets_of(y) + 0.3 * targets_of(y.flip(0))
    objective = TRADES(KLPGD(steps=2), beta=6.0)
    assert objective.perturb(model, x, mixed, THREAT).shape == x.shape
    output = objective.loss(model, x, x_adv, mixed, THREAT)
    assert_equal_with_gradients(output.loss, published(model(x), model(x_adv), mixed, 6.0), model)


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_certainty_gives_no_nan(scale: float, linear_model: nn.Module, flat_batch: Any) -> None:
    """yaodongyu/TRADES issue 30."""
    x, y = flat_batch
    model = nn.Sequential(linear_model, nn.Linear(5, 5, bias=False))
    model[1].weight.data = scale * torch.eye(5)
    output = TRADES(nothing).loss(model, x, 1 - x, y, THREAT)
    assert output.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.loss, list(model.parameters())))


def test_half_precision_logits_give_a_float32_loss(linear_model: nn.Module, flat_batch: Any) -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (linear_model(x) * 3e4).half()

    output = TRADES(nothing).loss(Half(), flat_batch.x * 0.1, flat_batch.x * 0.2, flat_batch.y, THREAT)
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()


def test_running_statistics_see_the_clean_batch_and_then_the_adversarial_one(
    conv_model: nn.Module, image_batch: Any
) -> None:
    x, y = image_batch
    x_adv = 1 - x
    first = conv_model.train()[0]
    expected = conv_model[1].running_mean.clone()
    for batch in (x, x_adv):
        expected = 0.9 * expected + 0.1 * first(batch).mean((0, 2, 3)).detach()
    TRADES(nothing).loss(conv_model, x, x_adv, y, THREAT)
    torch.testing.assert_close(conv_model[1].running_mean, expected)


def test_examples_are_crafted_in_the_mode_asked_for(conv_model: nn.Module, image_batch: Any) -> None:
    modes: list[bool] = []

    def look(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        modes.append(model[1].training)  # type: ignore[index, arg-type]
        return x

    conv_model.train()
    for mode in ("eval", "train", "batch_stats"):
        TRADES(look, attack_mode=mode).perturb(conv_model, *image_batch, THREAT)
    assert modes == [False, True, True]


def test_a_negative_beta_is_refused() -> None:
    with pytest.raises(RequestError, match="beta"):
        TRADES(nothing, beta=-1)
