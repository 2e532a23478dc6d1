"""Answers that tell less than the model does: the label alone, or rounded probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.extraction.victim import hard_labels


@dataclass(frozen=True)
class TopLabel:
    """Tells the label and nothing else, as a row with a single 1."""

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """One-hot rows (N, C)."""
        return hard_labels(probabilities)


@dataclass(frozen=True)
class Rounding:
    """Rounds probabilities to `digits` decimals, and scales each row to a sum of 1 again.

    A row in which nothing is left gets its label alone. Rounding hides nothing from whoever may ask about many inputs:
    along a path of inputs, the places where an answer jumps tell the probability there as exactly as one likes.

    Args:
        digits: decimals, 1 or more.

    Raises:
        RequestError: fewer than 1.
    """

    digits: int = 2

    def __post_init__(self) -> None:
        if self.digits < 1:
            raise RequestError(f"defense.digits must be at least 1, got {self.digits}; for labels only, defense=top1")

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """Rounded rows (N, C)."""
        # float32 cannot hold most decimals, and its rounding would give them away
        rounded = probabilities.double().round(decimals=self.digits)
        total = rounded.sum(dim=1, keepdim=True)
        return torch.where(total > 0, rounded / total.clamp_min(10**-self.digits), hard_labels(probabilities.double()))
