"""Standard training: cross-entropy on the clean images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.objectives.labels import accuracy
from robustml.types import LossOutput, Threat


@dataclass(frozen=True)
class Standard:
    """Empirical risk minimisation.

    Args:
        label_smoothing: share of the label's mass spread evenly over all classes (Szegedy et al. 2016).
    """

    label_smoothing: float = 0.0

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """The clean images themselves."""
        return x

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """Cross-entropy on `x` (N, ...) with labels `y` (N,)."""
        logits = logits_of(model, x)
        loss = functional.cross_entropy(logits.float(), y, label_smoothing=self.label_smoothing)
        return LossOutput(loss, logits, {"clean_accuracy": accuracy(logits, y)})
