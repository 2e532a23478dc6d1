from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, PGD, Within
from robustml.errors import RequestError
from robustml.objectives import Adversarial, SeveralNorms
from robustml.threats import LpBall
from robustml.types import Objective

THREAT = LpBall("inf", 0.1)


@dataclass(frozen=True)
class Shift:
    """A fake attack, the best one for some images and not for others."""

    by: float

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        return (x + self.by * torch.sin(7 * x + 3 * self.by)).clamp(0, 1)


SHIFTS = {"one": Shift(0.3), "two": Shift(-0.4), "three": Shift(0.5)}


@torch.no_grad()
def losses_by_hand(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    return [-float(model(image[None]).double().softmax(1)[0, label].log()) for image, label in zip(x, y, strict=True)]


@torch.no_grad()
def test_max_takes_each_images_worst_example(conv_model: nn.Module, image_batch: Any) -> None:
    """Brute force: every attack's loss on every image, one at a time."""
    x, y = image_batch
    crafted = [attack(conv_model, x, y) for attack in SHIFTS.values()]
    table = torch.tensor([losses_by_hand(conv_model, each, y) for each in crafted])
    worst = table.argmax(0).tolist()
    assert len(set(worst)) > 1, "one attack is the best for all: the test would see no choice"
    x_adv = SeveralNorms(SHIFTS).perturb(conv_model, x, y, THREAT)
    for row, choice in enumerate(worst):
        assert torch.equal(x_adv[row], crafted[choice][row])
    alone = [SeveralNorms(SHIFTS).perturb(conv_model, x[i : i + 1], y[i : i + 1], THREAT) for i in range(len(x))]
    assert torch.equal(torch.cat(alone), x_adv)


def test_max_trains_on_the_worst_examples(linear_model: nn.Module, flat_batch: Any) -> None:
    model, x, y = linear_model, flat_batch.x, flat_batch.y
    objective = SeveralNorms(SHIFTS)
    output = objective.loss(model, x, objective.perturb(model, x, y, THREAT), y, THREAT)
    table = [losses_by_hand(model, attack(model, x, y), y) for attack in SHIFTS.values()]
    worst = [max(column) for column in zip(*table, strict=True)]
    assert output.loss.item() == pytest.approx(sum(worst) / len(worst), abs=1e-6)
    assert output.logits.shape == (8, 5)
    assert output.logs.keys() == {"adversarial_accuracy"}


def test_average_is_the_mean_of_the_attacks_losses(linear_model: nn.Module, flat_batch: Any) -> None:
    """The loss, its gradient and the figures, against one training pass for each attack."""
    model, x, y = linear_model, flat_batch.x, flat_batch.y
    objective = SeveralNorms(SHIFTS, combine="average", label_smoothing=0.1)
    output = objective.loss(model, x, objective.perturb(model, x, y, THREAT), y, THREAT)
    total = torch.zeros(())
    for name, attack in SHIFTS.items():
        own = Adversarial(attack, label_smoothing=0.1)
        alone = own.loss(model, x, own.perturb(model, x, y, THREAT), y, THREAT)
        total = total + alone.loss / len(SHIFTS)
        assert output.logs[f"adversarial_accuracy_{name}"] == alone.logs["adversarial_accuracy"]
    torch.testing.assert_close(output.loss, total, atol=1e-6, rtol=1e-6)
    parameters = list(model.parameters())
    for ours, expected in zip(
        torch.autograd.grad(output.loss, parameters), torch.autograd.grad(total, parameters), strict=True
    ):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
    figures = [output.logs[f"adversarial_accuracy_{name}"] for name in SHIFTS]
    assert output.logs["adversarial_accuracy"] == pytest.approx(sum(map(float, figures)) / 3, abs=1e-6)


@pytest.mark.parametrize("combine", ["max", "average"])
def test_labels_may_be_distributions(combine: Any, linear_model: nn.Module, flat_batch: Any) -> None:
    objective = SeveralNorms(SHIFTS, combine=combine)
    mixed = 0.7 * nn.functional.one_hot(flat_batch.y, 5).float() + 0.06
    x_adv = objective.perturb(linear_model, flat_batch.x, mixed, THREAT)
    assert torch.equal(x_adv, objective.perturb(linear_model, *flat_batch, THREAT))
    loss = objective.loss(linear_model, flat_batch.x, x_adv, mixed, THREAT).loss
    repeats = len(x_adv) // 8
    expected = -(mixed.repeat(repeats, 1) * linear_model(x_adv).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("combine", ["max", "average"])
def test_conformance(combine: Any, conv_model: nn.Module, image_batch: Any) -> None:
    balls = {"linf": LpBall("inf", 0.1), "l2": LpBall(2, 0.6), "l1": LpBall(1, 2.5)}
    attacks = {name: Within(PGD(steps=2), ball) for name, ball in balls.items()} | {"fgsm": FGSM()}
    objective = SeveralNorms(attacks, combine=combine)
    assert isinstance(objective, Objective)
    statistics = conv_model.train()[1].running_mean.clone()
    x_adv = objective.perturb(conv_model, *image_batch, THREAT)
    assert x_adv.shape == ((8, 1, 6, 6) if combine == "max" else (32, 1, 6, 6))
    assert not x_adv.requires_grad
    held = [ball.contains(x_adv[:8], image_batch.x) for ball in balls.values()]
    assert torch.stack(held).any(0).all()
    assert torch.equal(conv_model[1].running_mean, statistics), "attack_mode=eval"
    assert all(module.training for module in conv_model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in conv_model.parameters())
    objective.loss(conv_model, image_batch.x, x_adv, image_batch.y, THREAT).loss.backward()
    assert all(parameter.grad is not None for parameter in conv_model.parameters())


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(RequestError, match="got none"):
        SeveralNorms({})
    with pytest.raises(RequestError, match="average"):
        SeveralNorms(SHIFTS, combine="averge")  # type: ignore[arg-type]
