"""How healthy a model under single-step training is, on one batch: FGSM against a short PGD, and gradient alignment.

In catastrophic overfitting (Wong et al., "Fast is better than free", ICLR 2020, arXiv:2001.03994) a model withstands
FGSM better and better and a short PGD not at all. Gradient alignment (Andriushchenko and Flammarion, "Understanding and
Improving Fast Adversarial Training", NeurIPS 2020, arXiv:2007.02617) falls with it, from .9 to .1 and less: the mean
cosine of the loss gradients at x and at x + eta, eta uniform in the ball. Deviations: both are measured in eval mode.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks import FGSM, PGD
from robustml.attacks.engine.gradient import crafting, input_gradient, logits_of
from robustml.modes import evaluating
from robustml.types import Attack, Threat


class Health(NamedTuple):
    """What was measured on one batch; accuracies are fractions, the alignment a cosine (NaN without any gradient).

    `constant_accuracy` is that of naming the most frequent class whatever the image, which no attack can lower.
    """

    clean_accuracy: float
    fgsm_accuracy: float
    pgd_accuracy: float
    gradient_alignment: float
    constant_accuracy: float


def measure_health(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, steps: int, generator: Generator) -> Health:
    """Measure a model, which is left as it was found.

    Args:
        model: images to logits, in any mode.
        x: images (N, ...) in [0, 1].
        y: classes (N,).
        threat: what the attacker may do: all of it in one step from `x` (FGSM), or in several from a random start.
        steps: of PGD.
        generator: of all that is random here.
    """

    def accuracy_under(attack: Attack) -> float:
        return _accuracy(model, attack(model, x, y, threat, generator=generator), y)

    with evaluating(model), crafting(model, x, y) as (x, y):
        return Health(
            clean_accuracy=_accuracy(model, x, y),
            fgsm_accuracy=accuracy_under(FGSM()),
            pgd_accuracy=accuracy_under(PGD(steps=steps)),
            gradient_alignment=_alignment(model, x, threat.sample(x, generator, boxed=False), y),
            constant_accuracy=float(y.bincount().max() / len(y)),
        )


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((logits_of(model, x).argmax(1) == y).double().mean())


def _alignment(model: nn.Module, x: Tensor, nearby: Tensor, y: Tensor) -> float:
    def gradients(images: Tensor) -> Tensor:
        gradient, _ = input_gradient(
            model, images, lambda logits: functional.cross_entropy(logits, y, reduction="none")
        )
        # In double precision the square of a gradient near 1e-30, as sure predictions have it, does not vanish.
        return gradient.flatten(1).double()

    here, there = gradients(x), gradients(nearby)
    lengths = here.norm(dim=1) * there.norm(dim=1)
    defined = lengths > 0
    return float(((here * there).sum(1)[defined] / lengths[defined]).mean())
