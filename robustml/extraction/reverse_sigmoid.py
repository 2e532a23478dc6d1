"""Reverse sigmoid: probabilities bent so that an attacker's gradients point astray.

Lee, Edwards, Molloy, Su, "Defending against machine learning model stealing attacks using deceptive perturbations",
IEEE Security and Privacy Workshops 2019, arXiv:1806.00054: y' = a (y - beta (s(gamma s^-1(y)) - 1/2)), a making the sum
1. Deviations: y is kept `_MARGIN` away from 0 and 1, where the inverse of the sigmoid s is not finite, and what falls
below 0 (beta far above 1) is cut off. The label may change where none of the probabilities reaches one half.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustml.errors import RequestError

_MARGIN = 1e-7


@dataclass(frozen=True)
class ReverseSigmoid:
    """Pushes large probabilities down and small ones up, most where the model is most certain.

    Args:
        beta: size of the perturbation.
        gamma: how fast it grows away from one half.

    Raises:
        RequestError: one of them is not above 0.
    """

    beta: float = 1.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.gamma > 0):
            raise RequestError(f"defense.beta and gamma must be above 0, got {self.beta} and {self.gamma}")

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """Bent rows (N, C)."""
        y = probabilities.double().clamp(_MARGIN, 1 - _MARGIN)
        bent = (y - self.beta * ((self.gamma * y.logit()).sigmoid() - 0.5)).clamp_min(_MARGIN)
        return bent / bent.sum(dim=1, keepdim=True)
