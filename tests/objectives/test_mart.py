"""MART against the authors' loss, written out class by class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import PGD
from robustml.errors import RequestError
from robustml.objectives import MART
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.1)


def nothing(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
    return x


def published(clean: Tensor, adversarial: Tensor, y: Tensor, beta: float) -> Tensor:
    """YisenWang/MART: BCE(adversarial, y) + beta KL(clean || adversarial) (1 - clean_y), with its constants."""
    total = torch.zeros((), dtype=clean.dtype)
    for row, moved, label in zip(clean, adversarial, y.tolist(), strict=True):
        p, q = row.exp() / row.exp().sum(), moved.exp() / moved.exp().sum()
        worst = max((probability, k) for k, probability in enumerate(q.tolist()) if k != label)[1]
        total = total - torch.log(q[label]) - torch.log(1.0001 - q[worst] + 1e-12)
        divergence = sum(p[k] * (torch.log(p[k]) - torch.log(q[k] + 1e-12)) for k in range(len(row)))
        total = total + beta * divergence * (1.0000001 - p[label])
    return total / len(clean)


@pytest.fixture
def pair(flat_batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Images, other images, labels; in double precision."""
    x = flat_batch.x.double()
    return x, (x + 0.4 * torch.sin(40 * x)).clamp(0, 1), flat_batch.y


@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0])
@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_the_loss_and_its_gradient_are_the_published_ones(
    beta: float, scale: float, linear_model: nn.Module, pair: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Some labels lead and some do not; at `scale=100` probabilities fall below 1e-12 and every constant counts."""
    (x, x_adv, y), model = pair, linear_model.double()
    model[1].weight.data *= scale
    leads = model(x_adv).argmax(1) == y
    assert leads.any()
    assert not leads.all()
    output = MART(nothing, beta=beta).loss(model, x, x_adv, y, THREAT)
    expected = published(model(x), model(x_adv), y, beta)
    torch.testing.assert_close(output.loss, expected, atol=1e-9, rtol=1e-9)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(output.loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    assert torch.equal(output.logits, model(x_adv))
    assert output.logs["adversarial_accuracy"] == leads.double().mean()


def test_two_classes_by_hand() -> None:
    """p = (.8, .2), q = (.3, .7), label 0: the figures of a pocket calculator."""
    model = nn.Sequential(nn.Identity())
    x, x_adv = (torch.tensor([row], dtype=torch.float64).log() for row in ([0.8, 0.2], [0.3, 0.7]))
    loss = MART(nothing, beta=6.0).loss(model, x, x_adv, torch.tensor([0]), THREAT).loss
    # -ln .3 - ln .3001 + 6 (.8 ln(.8 / .3) + .2 ln(.2 / .7)) .2000001
    assert loss.item() == pytest.approx(1.2039728 + 1.2036395 + 6 * (0.7846634 - 0.2505526) * 0.2000001, abs=1e-6)


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_certainty_gives_no_nan(scale: float, linear_model: nn.Module, flat_batch: Any) -> None:
    x, y = flat_batch
    model = nn.Sequential(linear_model, nn.Linear(5, 5, bias=False))
    model[1].weight.data = scale * torch.eye(5)
    output = MART(nothing).loss(model, x, 1 - x, y, THREAT)
    assert output.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.loss, list(model.parameters())))


def test_mixtures_are_refused(linear_model: nn.Module, flat_batch: Any) -> None:
    mixed = torch.full((8, 5), 0.2)
    objective = MART(PGD(steps=1))
    with pytest.raises(RequestError, match="CutMix"):
        objective.perturb(linear_model, flat_batch.x, mixed, THREAT)
    with pytest.raises(RequestError, match="CutMix"):
        objective.loss(linear_model, flat_batch.x, flat_batch.x, mixed, THREAT)


def test_running_statistics_see_the_clean_batch_and_then_the_adversarial_one(
    conv_model: nn.Module, image_batch: Any
) -> None:
    x, y = image_batch
    first = conv_model.train()[0]
    expected = conv_model[1].running_mean.clone()
    for batch in (x, 1 - x):
        expected = 0.9 * expected + 0.1 * first(batch).mean((0, 2, 3)).detach()
    MART(nothing).loss(conv_model, x, 1 - x, y, THREAT)
    torch.testing.assert_close(conv_model[1].running_mean, expected)


def test_examples_are_crafted_in_the_mode_asked_for(conv_model: nn.Module, image_batch: Any) -> None:
    modes: list[bool] = []

    def look(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        modes.append(model[1].training)  # type: ignore[index, arg-type]
        return x

    conv_model.train()
    for mode in ("eval", "train"):
        MART(look, attack_mode=mode).perturb(conv_model, *image_batch, THREAT)
    assert modes == [False, True]


def test_a_negative_beta_is_refused() -> None:
    with pytest.raises(RequestError, match="beta"):
        MART(nothing, beta=-1)
