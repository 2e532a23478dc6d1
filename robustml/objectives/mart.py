"""MART: a boosted cross-entropy, and a divergence that counts more where the clean prediction is unsure.

Wang et al., "Improving Adversarial Robustness Requires Revisiting Misclassified Examples", ICLR 2020, OpenReview
rklOg6EFwS; the authors' code is YisenWang/MART, whose constants inside the logarithms are kept. As there, clean images
pass through the model first and adversarial ones after them, each batch with its own statistics, and nothing is
detached. Deviations: p log p is taken from the logarithm of the softmax, so that a probability of 0 gives no NaN, and
the runner-up class is read off the logits, which saturate later than probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks import PGD
from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.modes import AttackMode
from robustml.objectives.crafting import craft
from robustml.objectives.labels import accuracy
from robustml.types import Attack, LossOutput, Threat


@dataclass(frozen=True)
class MART:
    """BCE(f(x_adv), y) + beta KL(f(x) || f(x_adv)) (1 - f(x)_y), averaged over the batch.

    BCE is the cross-entropy of the label and -log(1 - p) of the most likely wrong class. Labels are class indices: a
    mixture has no wrong class.

    Args:
        attack: crafts the examples; by default the paper's, PGD on the cross-entropy from a little Gaussian noise.
        beta: weight of the divergence, >= 0 (lambda in the paper); 5 for the authors' ResNet-18, 6 for their WRN-34-10.
        attack_mode: how the model runs while examples are crafted; see `robustml.modes.attacking`.

    Raises:
        RequestError: `beta` is negative; or, when called, labels that are mixtures of classes.
    """

    attack: Attack = field(default_factory=lambda: PGD(start_noise=0.001, clip_start=False))
    beta: float = 5.0
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        """Refuse a weight that would reward divergence."""
        if not self.beta >= 0:
            raise RequestError(f"beta, the weight of MART's divergence, must be >= 0, got {self.beta}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples for `x` (N, ...) with labels `y` (N,)."""
        _refuse_mixtures(y)
        return craft(self.attack, model, x, y, threat, self.attack_mode)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The loss on `x` and `x_adv` (N, ...) with labels `y` (N,)."""
        _refuse_mixtures(y)
        clean, adversarial = logits_of(model, x), logits_of(model, x_adv)
        first, second = adversarial.topk(2, dim=1).indices.unbind(1)
        wrong = torch.where(first == y, second, first)
        probabilities = adversarial.softmax(1)
        boosted = functional.cross_entropy(adversarial, y)
        boosted = boosted + functional.nll_loss((1.0001 - probabilities + 1e-12).log(), wrong)
        log_clean = clean.log_softmax(1)
        divergence = (log_clean.exp() * (log_clean - (probabilities + 1e-12).log())).sum(1)
        unsure = 1.0000001 - log_clean.gather(1, y.unsqueeze(1)).squeeze(1).exp()
        logs = {"clean_accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
        return LossOutput(boosted + self.beta * (divergence * unsure).mean(), adversarial, logs)


def _refuse_mixtures(y: Tensor) -> None:
    if y.ndim != 1:
        raise RequestError(
            f"MART needs one class an image, labels (N,), got mixtures of shape {tuple(y.shape)}: switch CutMix off, "
            "or choose objective=trades"
        )
