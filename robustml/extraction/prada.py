"""PRADA: an attacker's queries are told by the distances between them.

Juuti, Szyller, Marchal, Asokan, "PRADA: Protecting against DNN model stealing attacks", EuroS&P 2019, arXiv:1805.02628,
algorithm 3. For each query, the distance to the nearest one that got the same label and stood out before it is noted;
what people send makes these distances nearly normal, what a program makes does not. An alarm is raised once
Shapiro-Wilk's W falls below `threshold`. Deviations, which bound memory and time: W is computed of at most the last
5,000 distances, as far as its approximation holds, and distances are taken to the last 1,000 queries of a label that
stood out; distances that are all equal count as W = 0.

What it cannot see: an attacker whose queries are natural, or lie as far apart as natural ones do, and one who asks from
so many addresses that none of them reaches `minimum`.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from robustml.errors import RequestError

_MOST = 5000
_MOST_QUERIES = 1000


class Prada:
    """Watches the queries of one client; its answers are left as they are.

    Args:
        threshold: W below which queries count as an attacker's (delta in the paper), 0 to 1. It belongs to the data:
            take one that honest queries stay above.
        minimum: distances to see before any judgement.

    Raises:
        RequestError: a threshold outside (0, 1), or a minimum below 3.
    """

    def __init__(self, threshold: float = 0.9, minimum: int = 100) -> None:
        if not 0 < threshold < 1 or minimum < 3:
            raise RequestError(
                f"defense.threshold must lie between 0 and 1, and minimum be at least 3; got {threshold} and {minimum}"
            )
        self.threshold = threshold
        self.minimum = minimum
        self.seen = 0
        self.lowest: float | None = None
        """The smallest W so far; None before there were enough distances."""
        self._alarm_after: int | None = None
        self._classes: dict[int, _Growing] = {}
        self._noted = 0
        self._distances: deque[float] = deque(maxlen=_MOST)

    @property
    def held(self) -> int:
        """How many bytes of queries are remembered."""
        return sum(growing.held for growing in self._classes.values())

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
            self._noted += 1
            if self._noted > self.minimum and self._alarm_after is None:
                found = _normality(torch.tensor(self._distances, dtype=torch.float64))
                self.lowest = found if self.lowest is None else min(self.lowest, found)
                if found < self.threshold:
                    self._alarm_after = self.seen
        return probabilities


class _Growing:
    """The queries of one label that were further from their nearest predecessor than most (G_c in the paper)."""

    def __init__(self) -> None:
        self._queries: Tensor | None = None
        self._count = 0
        self._noted, self._mean, self._squares = 0, 0.0, 0.0
        self._threshold = 0.0

    @property
    def held(self) -> int:
        return 0 if self._queries is None else self._queries.numel() * self._queries.element_size()

    def add(self, query: Tensor) -> float | None:
        """The distance of a query (D,) to the nearest of the set, which it may join; None for the first."""
        if self._queries is None:
            self._join(query)
            return None
        distance = float((self._queries[: min(self._count, _MOST_QUERIES)] - query).norm(dim=1).min())
        if distance >= self._threshold:
            self._join(query)
            # mean and variance of all that were noted, without keeping them (Welford)
            self._noted += 1
            step = distance - self._mean
            self._mean += step / self._noted
            self._squares += step * (distance - self._mean)
            self._threshold = max(self._threshold, self._mean - (self._squares / self._noted) ** 0.5)
        return distance

    def _join(self, query: Tensor) -> None:
        """Put a query into its place: a new one at first, then that of the oldest."""
        room = 0 if self._queries is None else len(self._queries)
        if self._count == room < _MOST_QUERIES:
            more = query.new_empty(min(max(2 * room, 16), _MOST_QUERIES), len(query))
            if self._queries is not None:
                more[:room] = self._queries
            self._queries = more
        assert self._queries is not None
        self._queries[self._count % _MOST_QUERIES] = query
        self._count += 1


def _normality(distances: Tensor) -> float:
    """W of Shapiro and Wilk, of the distances (N,) within three deviations of their mean."""
    from scipy.stats import shapiro  # half a second, for this defense alone

    spread = distances.std(correction=0)
    kept = distances[(distances - distances.mean()).abs() <= 3 * spread]
    if float(kept.max() - kept.min()) == 0:
        return 0.0
    return float(shapiro(kept.numpy()).statistic)
