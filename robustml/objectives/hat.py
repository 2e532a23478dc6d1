"""HAT: TRADES, and a helper's labels on images pushed beyond the adversarial ones.

Rade and Moosavi-Dezfooli, "Reducing Excessive Margin to Achieve a Better Accuracy vs. Robustness Trade-off", ICLR 2022,
OpenReview Azh9QBQ4tR7; the authors' code is imrahulr/hat. As there, the helper labels the adversarial images (not the
helper images), helper images are not clipped to [0, 1], and clean, adversarial and helper images pass through the model
in that order, each batch with its own statistics. No deviation is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks import KLPGD
from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.modes import AttackMode, evaluating
from robustml.objectives.crafting import craft
from robustml.objectives.labels import accuracy
from robustml.objectives.trades import divergence
from robustml.types import Attack, LossOutput, Threat


@dataclass(frozen=True)
class HAT:
    """CE(f(x), y) + beta KL(f(x) || f(x_adv)) + gamma CE(f(x + h (x_adv - x)), helper(x_adv)), batch averages.

    Args:
        attack: crafts the examples; by default the paper's, `robustml.attacks.KLPGD`.
        helper: a model trained without attacks: images (N, ...) in [0, 1] to logits (N, C). It is moved to the images'
            device and precision, run in eval mode without gradients, and neither trained nor saved with the model.
        beta: weight of the divergence, >= 0.
        gamma: weight of the helper's labels, >= 0.
        h: how far helper images go, as a multiple of the adversarial perturbation.
        label_smoothing: share of the label's mass spread evenly over all classes, in the clean loss.
        attack_mode: how the model runs while examples are crafted; see `robustml.modes.attacking`.

    Raises:
        RequestError: a negative weight, or no helper.
    """

    attack: Attack = field(default_factory=KLPGD)
    helper: nn.Module = None  # type: ignore[assignment]  # refused below: the attack before it has a default
    beta: float = 2.5
    gamma: float = 0.5
    h: float = 2.0
    label_smoothing: float = 0.0
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        """Refuse weights that would reward errors, and labels of nobody."""
        if not isinstance(self.helper, nn.Module):
            raise RequestError(f"HAT needs helper=, a model trained without attacks, got {self.helper!r:.60}")
        if not (self.beta >= 0 and self.gamma >= 0):
            raise RequestError(f"HAT's weights must be >= 0, got beta={self.beta} and gamma={self.gamma}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples for `x` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        return craft(self.attack, model, x, y, threat, self.attack_mode)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The loss on `x` and `x_adv` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        with evaluating(self.helper), torch.no_grad():
            opinion = logits_of(self.helper.to(x), x_adv).argmax(1)
        clean, adversarial = logits_of(model, x), logits_of(model, x_adv)
        helped = logits_of(model, x + self.h * (x_adv - x))
        natural = functional.cross_entropy(clean, y, label_smoothing=self.label_smoothing)
        guided = functional.cross_entropy(helped, opinion)
        loss = natural + self.beta * divergence(clean, adversarial) + self.gamma * guided
        logs = {"clean_accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
        return LossOutput(loss, adversarial, logs)
