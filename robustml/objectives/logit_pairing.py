"""Adversarial logit pairing: a mixture of clean and adversarial examples whose logits are pulled together.

Kannan, Kurakin and Goodfellow, "Adversarial Logit Pairing", 2018, arXiv:1803.06373; their code is
research/adversarial_logit_pairing of tensorflow/models. As there, clean and adversarial images are one batch in one
pass, the cross-entropy is the mean of both halves, and the squared difference is averaged over examples and classes.
Deviation: their attack leads away from the predicted class, or (what they trained their released models with) to the
least likely one; here the attack decides, and it is given the label.

It was broken: Engstrom, Ilyas and Athalye, "Evaluating and Understanding the Robustness of Adversarial Logit Pairing",
2018, arXiv:1807.10272, found that next to nothing of its robustness is left under PGD of 1,000 steps, for it makes the
loss hard to climb. It is here for comparison; evaluate it with many steps and restarts (`evaluation=strong`).
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
class LogitPairing:
    """Half the cross-entropy on x, half on x_adv, and weight times the mean of (f(x) - f(x_adv))^2.

    Args:
        attack: crafts the examples; PGD in the paper.
        weight: of the squared difference of logits, >= 0 (lambda in the paper).
        label_smoothing: share of the label's mass spread evenly over all classes, in both halves.
        attack_mode: how the model runs while examples are crafted; see `robustml.modes.attacking`.

    Raises:
        RequestError: `weight` is negative.
    """

    attack: Attack
    weight: float = 0.5
    label_smoothing: float = 0.0
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        """Refuse a weight that would drive the pairs apart."""
        if not self.weight >= 0:
            raise RequestError(f"the weight of logit pairing must be >= 0, got {self.weight}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples for `x` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        return craft(self.attack, model, x, y, threat, self.attack_mode)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The loss on `x` and `x_adv` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        logits = logits_of(model, torch.cat([x, x_adv]))
        mixed = functional.cross_entropy(logits, torch.cat([y, y]), label_smoothing=self.label_smoothing)
        clean, adversarial = logits.chunk(2)
        loss = mixed + self.weight * functional.mse_loss(clean, adversarial)
        logs = {"clean_accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
        return LossOutput(loss, adversarial, logs)
