"""PRADA: a thief's queries are told by the distances between them.

Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting against DNN model stealing attacks", EuroS&P 2019, arXiv:1805.02628,
algorithm 3. For each query, the distance to the nearest one that got the same label and stood out before it is noted;
what people send makes these distances nearly normal, what a program makes does not. An alarm is raised once
Shapiro-Wilk's W falls below `threshold`. Deviations: W is computed of at most the last 5,000 distances, as far as its
approximation holds; distances that are all equal count as W = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustml.errors import RequestError

__all__ = ["Prada"]

_MOST = 5000


class Prada:
    """Watches the queries of one client; its answers are left as they are.

    Args:
        threshold: W below which queries count as a thief's (delta in the paper), 0 to 1. It belongs to the data: take
            one that honest queries stay above.
        minimum: distances to see before any judgement.

    Raises:
        RequestError: a threshold outside (0, 1), or a minimum below 3.
    """

    def __init__(self, threshold: float = 0.9, minimum: int = 100) -> None:
        if not 0 < threshold < 1 or minimum < 3:
            raise RequestError(
                f"defence.threshold must lie between 0 and 1, and minimum be at least 3; got {threshold} and {minimum}"
            )
        self.threshold = threshold
        self.minimum = minimum
        self.seen = 0
        self.lowest: float | None = None
        """The smallest W so far; None before there were enough distances."""
        self._alarm_after: int | None = None
        self._classes: dict[int, _Growing] = {}
        self._distances: list[float] = []

    @property
    def alarm_after(self) -> int | None:
        """How many queries had been seen when W first fell below the threshold; None if it has not."""
        return self._alarm_after

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """Look at queries `x` (N, ...) one after the other; `probabilities` (N, C) as they came."""
        labels = probabilities.argmax(dim=1).tolist()
        for query, label in zip(x.detach().flatten(1).cpu(), labels, strict=True):
            self.seen += 1
            distance = self._classes.setdefault(label, _Growing()).add(query)
            if distance is None:
                continue
            self._distances.append(distance)
            if len(self._distances) > self.minimum and self._alarm_after is None:
                found = _normality(torch.tensor(self._distances[-_MOST:], dtype=torch.float64))
                self.lowest = found if self.lowest is None else min(self.lowest, found)
                if found < self.threshold:
                    self._alarm_after = self.seen
        return probabilities


class _Growing:
    """The queries of one label that were further from their nearest predecessor than most (G_c in the paper)."""

    def __init__(self) -> None:
        self._queries: list[Tensor] = []
        self._distances: list[float] = []
        self._threshold = 0.0

    def add(self, query: Tensor) -> float | None:
        """The distance of a query (D,) to the nearest of the set, which it may join; None for the first."""
        if not self._queries:
            self._queries.append(query)
            return None
        distance = float((torch.stack(self._queries) - query).norm(dim=1).min())
        if distance >= self._threshold:
            self._queries.append(query)
            self._distances.append(distance)
            noted = torch.tensor(self._distances, dtype=torch.float64)
            self._threshold = max(self._threshold, float(noted.mean() - noted.std(correction=0)))
        return distance


def _normality(distances: Tensor) -> float:
    """W of Shapiro and Wilk, of the distances (N,) within three deviations of their mean."""
    from scipy.stats import shapiro

    spread = distances.std(correction=0)
    kept = distances[(distances - distances.mean()).abs() <= 3 * spread]
    if float(kept.max() - kept.min()) == 0:
        return 0.0
    return float(shapiro(kept.numpy()).statistic)
