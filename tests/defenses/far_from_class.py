"""The toy detector of CONTRIBUTING: a record far from the mean of its class is suspect.

Deviation from anything published: none, it is nobody's method.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, nn

from robustml.errors import RequestError
from robustml.types import Labelled, Suspicion

__all__ = ["FarFromClass"]


@dataclass(frozen=True)
class FarFromClass:
    """Euclidean distance to the class mean, in units of the class's mean distance.

    Args:
        threshold: an alarm above so many of them.

    Raises:
        RequestError: a threshold that is not above 0.
    """

    threshold: float = 2.0

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise RequestError(f"threshold must be > 0, got {self.threshold}")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """A score for each record of `records` (N, ...); the model is not asked."""
        x = records.x.flatten(1).double()
        scores = torch.zeros(len(x), dtype=torch.float64)
        for label in records.y.unique():
            own = records.y == label
            distance = (x[own] - x[own].mean(0)).norm(dim=1)
            scores[own] = distance / distance.mean().clamp(min=1e-12)
        return Suspicion(scores, self.threshold, records.ids)
