"""HAT against the published loss, written out row by row; the helper is looked at and left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import KLPGD
from robustml.errors import RequestError
from robustml.objectives import HAT
from robustml.threats import LpBall
from robustml.training import RobustClassifier

THREAT = LpBall("inf", 0.1)


def nothing(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
    return x


@pytest.fixture
def helper() -> nn.Module:
    """Another linear model of the same shapes, behind dropout that must not act."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(21)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(12, 5))


@pytest.fixture
def pair(flat_batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Images, other images, labels; in double precision."""
    x = flat_batch.x.double()
    return x, (x + 0.4 * torch.sin(40 * x)).clamp(0, 1), flat_batch.y


def probabilities(row: Tensor) -> Tensor:
    return row.exp() / row.exp().sum()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("beta", "gamma", "h"), [(2.5, 0.5, 2.0), (1.0, 3.0, 1.5), (0.0, 1.0, 2.0), (2.0, 0.0, 2.0)])
def test_the_loss_and_its_gradient_are_the_published_ones(
    beta: float,
    gamma: float,
    h: float,
    soft: bool,
    linear_model: nn.Module,
    helper: nn.Module,
    pair: tuple[Tensor, Tensor, Tensor],
) -> None:
    (x, x_adv, y), model, helper = pair, linear_model.double(), helper.double()
    targets = torch.eye(5, dtype=torch.float64)[y]
    if soft:
        targets = 0.6 * targets + 0.4 * targets.flip(0)
    weight, bias = helper[2].weight.detach(), helper[2].bias.detach()
    expected = torch.zeros((), dtype=torch.float64)
    for image, moved, target in zip(x, x_adv, targets, strict=True):
        opinion = int((weight @ moved + bias).argmax())
        far = image + h * (moved - image)
        p, q, r = (probabilities(row) for row in model(torch.stack([image, moved, far])))
        for k in range(5):
            expected = expected - target[k] * p[k].log() + beta * p[k] * (p[k].log() - q[k].log())
        expected = expected - gamma * r[opinion].log()
    expected = expected / len(x)
    output = HAT(nothing, helper, beta=beta, gamma=gamma, h=h).loss(model, x, x_adv, targets if soft else y, THREAT)
    torch.testing.assert_close(output.loss, expected, atol=1e-9, rtol=1e-9)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(output.loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    assert torch.equal(output.logits, model(x_adv))


def test_the_helper_is_left_as_found(linear_model: nn.Module, helper: nn.Module, flat_batch: Any) -> None:
    x, y = flat_batch
    helper.train()
    before = copy.deepcopy(helper.state_dict())
    objective = HAT(KLPGD(steps=2), helper)
    objective.loss(linear_model, x, objective.perturb(linear_model, x, y, THREAT), y, THREAT).loss.backward()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in helper.parameters())
    assert all(module.training for module in helper.modules())
    assert all(torch.equal(value, before[name]) for name, value in helper.state_dict().items())
    assert all(parameter.grad is not None for parameter in linear_model.parameters())


def test_the_helper_is_neither_trained_nor_saved(linear_model: nn.Module, helper: nn.Module) -> None:
    module = RobustClassifier(linear_model, HAT(nothing, helper), THREAT, torch.optim.SGD)  # type: ignore[arg-type]
    assert set(module.state_dict()) == {"model.1.weight", "model.1.bias"}
    assert len(list(module.parameters())) == 2


def test_the_helper_follows_the_images(linear_model: nn.Module, helper: nn.Module, flat_batch: Any) -> None:
    """To their precision here; a device is the same call."""
    x, y = flat_batch.x.double(), flat_batch.y
    assert HAT(nothing, helper).loss(linear_model.double(), x, x, y, THREAT).loss.isfinite()
    assert helper[2].weight.dtype == torch.float64


def test_the_three_batches_pass_one_after_the_other(conv_model: nn.Module, image_batch: Any, helper: nn.Module) -> None:
    x, y = image_batch
    x_adv = 0.5 * x + 0.2
    first = conv_model.train()[0]
    expected = conv_model[1].running_mean.clone()
    for batch in (x, x_adv, x + 2 * (x_adv - x)):
        expected = 0.9 * expected + 0.1 * first(batch).mean((0, 2, 3)).detach()
    HAT(nothing, nn.Sequential(nn.Flatten(), nn.Linear(36, 5))).loss(conv_model, x, x_adv, y, THREAT)
    torch.testing.assert_close(conv_model[1].running_mean, expected)


def test_examples_are_crafted_in_the_mode_asked_for(conv_model: nn.Module, image_batch: Any, helper: nn.Module) -> None:
    modes: list[bool] = []

    def look(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        modes.append(model[1].training)  # type: ignore[index, arg-type]
        return x

    conv_model.train()
    for mode in ("eval", "train"):
        HAT(look, helper, attack_mode=mode).perturb(conv_model, *image_batch, THREAT)
    assert modes == [False, True]


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_certainty_gives_no_nan(scale: float, linear_model: nn.Module, helper: nn.Module, flat_batch: Any) -> None:
    x, y = flat_batch
    model = nn.Sequential(linear_model, nn.Linear(5, 5, bias=False))
    model[1].weight.data = scale * torch.eye(5)
    output = HAT(nothing, helper).loss(model, x, 1 - x, y, THREAT)
    assert output.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.loss, list(model.parameters())))


@pytest.mark.parametrize("weights", [{"beta": -1.0}, {"gamma": -0.1}])
def test_negative_weights_are_refused(weights: dict[str, float], helper: nn.Module) -> None:
    with pytest.raises(RequestError, match="weights"):
        HAT(nothing, helper, **weights)
