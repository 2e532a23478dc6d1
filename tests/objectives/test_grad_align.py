"""GradAlign against gradients in closed form, on models whose input gradient is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM
from robustml.errors import RequestError
from robustml.objectives import GradAlign
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.3)


def nothing(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
    return x


class Tanh(nn.Module):
    """Logits V tanh(W x): the gradient of the cross-entropy is W^T ((1 - tanh^2) * V^T (p - target))."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(31)
            self.inner = nn.Parameter(torch.randn(7, 12, dtype=torch.float64))
            self.outer = nn.Parameter(torch.randn(5, 7, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.inner.T) @ self.outer.T

    def slope(self, x: Tensor, targets: Tensor) -> Tensor:
        hidden = torch.tanh(x @ self.inner.T)
        p = torch.softmax(hidden @ self.outer.T, 1)
        return ((1 - hidden**2) * ((p - targets) @ self.outer)) @ self.inner


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.2, 2.0])
def test_the_loss_and_its_gradient_are_the_published_ones(weight: float, soft: bool, flat_batch: Any) -> None:
    """The slope at the image is a constant, the one at the neighbour is not: as in the authors' code."""
    model, x, y = Tanh(), flat_batch.x.double(), flat_batch.y
    targets = torch.eye(5, dtype=torch.float64)[y]
    if soft:
        targets = 0.6 * targets + 0.4 * targets.flip(0)
    x_adv = 1 - x
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        output = GradAlign(FGSM(), weight=weight).loss(model, x, x_adv, targets if soft else y, THREAT)
        torch.manual_seed(4)
        neighbour = x + torch.empty_like(x).uniform_(-0.3, 0.3)
    here, there = model.slope(x, targets).detach(), model.slope(neighbour, targets)
    cosines = [(a @ b) / (a @ a).sqrt() / (b @ b).sqrt() for a, b in zip(here, there, strict=True)]
    mean = torch.stack(cosines).mean()
    assert 0.1 < mean < 0.99, "gradients that turn, or there is nothing to see"
    expected = -(targets * model(x_adv).log_softmax(1)).sum(1).mean() + weight * (1 - mean)
    torch.testing.assert_close(output.loss, expected, atol=1e-9, rtol=1e-9)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(output.loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(output.logs["gradient_alignment"], mean.detach())
    assert torch.equal(output.logits, model(x_adv))


def test_two_classes_of_a_linear_model_are_aligned_whatever_the_weights(flat_batch: Any) -> None:
    """Every input gradient is a multiple of the difference of the two rows."""
    model = nn.Linear(12, 2)
    output = GradAlign(FGSM()).loss(model, flat_batch.x, flat_batch.x, flat_batch.y % 2, THREAT)
    assert output.logs["gradient_alignment"].item() == pytest.approx(1.0, abs=1e-5)


def test_examples_without_a_gradient_are_left_out(flat_batch: Any) -> None:
    """Behind a hinge at 0.5, black images have no gradient, here and within 0.3: the others alone are the mean."""
    hinge = nn.Sequential(nn.Threshold(0.5, 0.0), Tanh())
    x, y = flat_batch.x.double(), flat_batch.y
    x[:4] = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        output = GradAlign(FGSM()).loss(hinge, x, x, y, THREAT)
        torch.manual_seed(4)
        neighbour = x + torch.empty_like(x).uniform_(-0.3, 0.3)
    cosines = []
    for image, other, label in zip(x, neighbour, torch.eye(5, dtype=torch.float64)[y], strict=True):
        slopes = [
            (point > 0.5) * hinge[1].slope(nn.functional.threshold(point, 0.5, 0.0)[None], label[None])[0].detach()
            for point in (image, other)
        ]
        cosines.append(torch.cosine_similarity(*slopes, dim=0))
    assert not any(cosines[:4])
    torch.testing.assert_close(output.logs["gradient_alignment"], torch.stack(cosines[4:]).mean())


def test_no_gradient_anywhere_is_no_nan(flat_batch: Any) -> None:
    model = nn.Linear(12, 5)
    nn.init.zeros_(model.weight)
    output = GradAlign(FGSM()).loss(model, flat_batch.x, flat_batch.x, flat_batch.y, THREAT)
    gradients = torch.autograd.grad(output.loss, list(model.parameters()))
    assert output.logs["gradient_alignment"] == 1
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_running_statistics_see_images_adversarial_ones_and_neighbours(conv_model: nn.Module, image_batch: Any) -> None:
    """As the authors' do, whose attack runs in train mode: our default attack leaves the statistics to the loss."""
    x, y = image_batch
    objective = GradAlign(FGSM())
    first = conv_model.train()[0]
    expected = conv_model[1].running_mean.clone()
    x_adv = objective.perturb(conv_model, x, y, THREAT)
    assert torch.equal(conv_model[1].running_mean, expected)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        objective.loss(conv_model, x, x_adv, y, THREAT)
        torch.manual_seed(4)
        # The dropout layer draws before the neighbour is drawn: once for the images, once for the adversarial ones.
        for _ in range(2):
            nn.functional.dropout(torch.ones(8, 24), 0.4)
        neighbour = x + torch.empty_like(x).uniform_(-0.3, 0.3)
    for batch in (x, x_adv, neighbour):
        expected = 0.9 * expected + 0.1 * first(batch).mean((0, 2, 3)).detach()
    torch.testing.assert_close(conv_model[1].running_mean, expected)


def test_examples_are_crafted_in_the_mode_asked_for(conv_model: nn.Module, image_batch: Any) -> None:
    modes: list[bool] = []

    class Look:
        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
            modes.append(model[1].training)  # type: ignore[index, arg-type]
            return x

    conv_model.train()
    for mode in ("eval", "train", "batch_stats"):
        GradAlign(Look(), attack_mode=mode).perturb(conv_model, *image_batch, THREAT)
    assert modes == [False, True, True]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(RequestError, match="weight"):
        GradAlign(FGSM(), weight=-1)
