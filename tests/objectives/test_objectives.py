from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM
from robustml.errors import RequestError
from robustml.modes import AttackMode
from robustml.objectives import (
    Adversarial,
    Standard,
)
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.1)


@dataclass
class Brighten:
    """A fake attack that remembers how it found the model."""

    by: float = 0.05
    seen: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        self.seen.append(
            {
                "training": [module.training for module in model.modules()],
                "tracking": [m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d)],
            }
        )
        with torch.no_grad():
            model(x)
        return (x + self.by).clamp(0, 1)


def mean_cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Szegedy et al. 2016, section 7: q(k) = (1 - s) [k = y] + s / K, and H(q, p) = -sum q log p."""
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits.double(), y.tolist(), strict=True):
        probability = row.exp() / row.exp().sum()
        for k in range(len(row)):
            q = (1 - smoothing) * (k == label) + smoothing / len(row)
            total = total - q * probability[k].log()
    return total / len(y)


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_adversarial_is_the_weighted_cross_entropy(
    share: float, smoothing: float, linear_model: nn.Module, flat_batch: Any
) -> None:
    model, x, y = linear_model.double(), flat_batch.x.double(), flat_batch.y
    objective = Adversarial(Brighten(), share=share, label_smoothing=smoothing)
    x_adv = objective.perturb(model, x, y, THREAT)
    output = objective.loss(model, x, x_adv, y, THREAT)
    moved = (x + 0.05).clamp(0, 1)
    expected = share * mean_cross_entropy(model(moved), y, smoothing)
    expected = expected + (1 - share) * mean_cross_entropy(model(x), y, smoothing)
    torch.testing.assert_close(output.loss.double(), expected, atol=1e-6, rtol=1e-6)
    for ours, theirs in zip(gradients(output.loss, model), gradients(expected, model), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_standard_is_the_cross_entropy_of_the_clean_images(
    smoothing: float, linear_model: nn.Module, flat_batch: Any
) -> None:
    model, x, y = linear_model.double(), flat_batch.x.double(), flat_batch.y
    objective = Standard(label_smoothing=smoothing)
    assert objective.perturb(model, x, y, THREAT) is x
    output = objective.loss(model, x, torch.full_like(x, math.nan), y, THREAT)
    expected = mean_cross_entropy(model(x), y, smoothing)
    torch.testing.assert_close(output.loss.double(), expected, atol=1e-6, rtol=1e-6)
    for ours, theirs in zip(gradients(output.loss, model), gradients(expected, model), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    assert torch.equal(output.logits, model(x))
    assert output.logs.keys() == {"clean_accuracy"}
    assert output.logs["clean_accuracy"] == (model(x).argmax(1) == y).double().mean()


def test_half_and_half_with_fgsm_is_goodfellow(linear_model: nn.Module, flat_batch: Any) -> None:
    """0.5 J(x) + 0.5 J(x + eps sign(grad J(x))), Goodfellow et al. 2015, section 6."""
    model, y = linear_model.double(), flat_batch.y
    x = (flat_batch.x.double() * 0.6 + 0.2).requires_grad_()
    cross_entropy = nn.CrossEntropyLoss()
    (slope,) = torch.autograd.grad(cross_entropy(model(x), y), x)
    expected = 0.5 * cross_entropy(model(x), y) + 0.5 * cross_entropy(model(x + 0.1 * slope.sign()), y)
    objective = Adversarial(FGSM(), share=0.5)
    x = x.detach()
    output = objective.loss(model, x, objective.perturb(model, x, y, THREAT), y, THREAT)
    torch.testing.assert_close(output.loss.double(), expected, atol=1e-6, rtol=1e-6)


def test_the_logs_and_logits_are_of_the_images_they_name(linear_model: nn.Module, flat_batch: Any) -> None:
    x, y = flat_batch.x, linear_model(flat_batch.x).argmax(1)
    x_adv = FGSM()(linear_model, x, y, THREAT)
    robust = (linear_model(x_adv).argmax(1) == y).float().mean()
    assert robust < 1
    for share, names in ((0.5, {"clean_accuracy", "adversarial_accuracy"}), (1.0, {"adversarial_accuracy"})):
        output = Adversarial(Brighten(), share=share).loss(linear_model, x, x_adv, y, THREAT)
        assert output.logs.keys() == names
        assert output.logs["adversarial_accuracy"] == robust
        assert output.logs.get("clean_accuracy", torch.tensor(1.0)) == 1.0
        torch.testing.assert_close(output.logits, linear_model(x_adv))
        assert not any(value.requires_grad for value in output.logs.values())
    output = Adversarial(Brighten(), share=0.0).loss(linear_model, x, x_adv, y, THREAT)
    assert output.logs == {"clean_accuracy": torch.tensor(1.0)}
    assert torch.equal(output.logits, linear_model(x))


def test_share_0_crafts_nothing(linear_model: nn.Module, flat_batch: Any) -> None:
    attack = Brighten()
    assert Adversarial(attack, share=0).perturb(linear_model, *flat_batch, THREAT) is flat_batch.x
    assert attack.seen == []


def test_share_1_does_not_look_at_the_clean_images(linear_model: nn.Module, flat_batch: Any) -> None:
    nothing = torch.full_like(flat_batch.x, math.nan)
    output = Adversarial(Brighten(), share=1).loss(linear_model, nothing, flat_batch.x, flat_batch.y, THREAT)
    assert output.loss.isfinite()


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(RequestError, match="share"):
        Adversarial(Brighten(), share=share)


@pytest.mark.parametrize(
    ("mode", "norms_train", "dropout_trains", "tracks", "moves"),
    [
        ("train", True, True, True, True),
        ("eval", False, False, True, False),
        ("batch_stats", True, False, False, False),
    ],
)
def test_the_attack_sees_the_mode_it_was_given(
    mode: AttackMode,
    norms_train: bool,
    dropout_trains: bool,
    tracks: bool,
    moves: bool,
    conv_model: nn.Module,
    image_batch: Any,
) -> None:
    conv_model.train()
    before = conv_model[1].running_mean.clone()
    attack = Brighten()
    Adversarial(attack, attack_mode=mode).perturb(conv_model, *image_batch, THREAT)
    seen = dict(
        zip((type(module).__name__ for module in conv_model.modules()), attack.seen[0]["training"], strict=True)
    )
    assert (seen["BatchNorm2d"], seen["Dropout"]) == (norms_train, dropout_trains)
    assert attack.seen[0]["tracking"] == [tracks, tracks]
    assert torch.equal(conv_model[1].running_mean, before) == (not moves)
    assert all(module.training for module in conv_model.modules())


def test_an_unknown_mode_is_refused(conv_model: nn.Module, image_batch: Any) -> None:
    with pytest.raises(RequestError, match="attack_mode"):
        Adversarial(Brighten(), attack_mode="evaluate").perturb(conv_model, *image_batch, THREAT)  # type: ignore[arg-type]


def test_the_halves_of_a_mixture_share_their_batch_statistics(conv_model: nn.Module, image_batch: Any) -> None:
    """As the docstring says: one batch of both, hence one pass."""
    sizes: list[int] = []
    conv_model.train().register_forward_hook(lambda model, inputs, _: sizes.append(len(inputs[0])))
    x = image_batch.x
    Adversarial(Brighten(), share=0.5).loss(conv_model, x, x, image_batch.y, THREAT)
    assert sizes == [16]


def test_half_precision_logits_do_not_overflow_the_loss(linear_model: nn.Module, flat_batch: Any) -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (linear_model(x) * 3e4).half()

    for objective in (Standard(), Adversarial(Brighten(), share=0.5), Adversarial(Brighten())):
        output = objective.loss(Half(), flat_batch.x * 0.1, flat_batch.x * 0.1, flat_batch.y, THREAT)
        assert output.loss.dtype == torch.float32
        assert output.loss.isfinite()
