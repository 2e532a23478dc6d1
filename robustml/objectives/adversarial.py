"""Adversarial training: cross-entropy on examples crafted against the model as it is now.

With `share=1`, Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
arXiv:1706.06083; with `share=0.5` and FGSM, the mixture of Goodfellow et al., ICLR 2015, arXiv:1412.6572 (their
alpha = 0.5). Any attack does. Deviation: with a mixture, clean and adversarial halves pass through the model as one
batch, so that batch-norm statistics are those of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.modes import AttackMode
from robustml.objectives.crafting import craft
from robustml.objectives.labels import accuracy
from robustml.types import Attack, LossOutput, Threat


@dataclass(frozen=True)
class Adversarial:
    """Train on adversarial examples, or on a mixture of them and the clean ones.

    Args:
        attack: crafts the examples.
        share: weight of the adversarial loss, 0 to 1; the clean loss has the rest. At 1 the clean images are not
            looked at, at 0 none are crafted.
        label_smoothing: share of the label's mass spread evenly over all classes, in both losses.
        attack_mode: how the model runs while examples are crafted: ``"train"`` (Wong 2020, Rice 2020), ``"eval"``
            (Pang 2021) or ``"batch_stats"``; see `robustml.modes.attacking`.

    Raises:
        RequestError: a share outside [0, 1].
    """

    attack: Attack
    share: float = 1.0
    label_smoothing: float = 0.0
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        """Refuse a share that is no share."""
        if not 0 <= self.share <= 1:
            raise RequestError(f"share of adversarial samples must be in [0, 1], got {self.share}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples for `x` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        if self.share == 0:
            return x
        return craft(self.attack, model, x, y, threat, self.attack_mode)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The weighted cross-entropy on `x` and `x_adv` (N, ...) with labels `y` (N,)."""
        if self.share == 1:
            logits = logits_of(model, x_adv)
            return LossOutput(self._cross_entropy(logits, y), logits, {"adversarial_accuracy": accuracy(logits, y)})
        if self.share == 0:
            logits = logits_of(model, x)
            return LossOutput(self._cross_entropy(logits, y), logits, {"clean_accuracy": accuracy(logits, y)})
        clean, adversarial = logits_of(model, torch.cat([x, x_adv])).chunk(2)
        loss = self.share * self._cross_entropy(adversarial, y) + (1 - self.share) * self._cross_entropy(clean, y)
        logs = {"clean_accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
        return LossOutput(loss, adversarial, logs)

    def _cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), y, label_smoothing=self.label_smoothing)
