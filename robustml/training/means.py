"""Means of an epoch's figures, added up where the figures are: nothing waits for an accelerator before the end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Means:
    """Weighted means of scalars, each under its name.

    torchmetrics' `MeanMetric` looks for NaN in every update and moves each weight to the device: on an accelerator,
    two waits a figure and step. Here a NaN stays visible in the mean instead.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, int] = {}

    def begin(self, name: str, device: torch.device) -> None:
        """Know a figure before it is measured: processes that are to add up theirs must know the same ones."""
        if name not in self._sums:
            self._sums[name], self._weights[name] = torch.zeros((), device=device), 0

    def add(self, name: str, value: Tensor, weight: int) -> None:
        """Count the scalar `value`, the mean of `weight` examples."""
        self.begin(name, value.device)
        self._sums[name] = self._sums[name] + value.detach().float() * weight
        self._weights[name] += weight

    def clear(self, prefix: str) -> None:
        """Forget the figures whose names begin so."""
        for name in [name for name in self._sums if name.startswith(prefix)]:
            del self._sums[name], self._weights[name]

    def take(self, prefix: str, total: Callable[[Tensor], Tensor] = lambda part: part) -> dict[str, Tensor]:
        """The means whose names begin with `prefix`; they begin anew.

        Args:
            prefix: such as ``"val/"``.
            total: adds a tensor up over all processes.
        """
        names = [name for name in self._sums if name.startswith(prefix)]
        if not names:
            return {}
        sums = torch.stack([self._sums[name] for name in names])
        weights = torch.tensor([self._weights[name] for name in names], dtype=sums.dtype, device=sums.device)
        means = (total(sums) / total(weights)).unbind()
        self.clear(prefix)
        return dict(zip(names, means, strict=True))
