"""A few images of each class out of the whole set, found in one pass: what sanity checks look at and reports show.

A set may be sorted by class, so that its first batch says nothing of the others. Each image has a priority, which is
random but its own (made of its identity), and of each class those of the lowest are kept: the sample depends neither on
the order of the images nor on how they are cut into batches or dealt to processes.
"""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustml.evaluation.batches import Batch
from robustml.evaluation.processes import gathered


class Seen(NamedTuple):
    """One image of the sample: its place (batch, row), the image (...) on the CPU, label and prediction."""

    priority: int
    place: tuple[int, int]
    x: Tensor
    y: int
    prediction: int


class Sample:
    """At most `size` images of a set, as many of each class as of any other, as far as the classes go.

    Args:
        size: how many images.
        seed: of the choice.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._salt = np.random.SeedSequence([seed, *b"sample"]).generate_state(1, np.uint64)[0]
        self._classes: dict[int, list[Seen]] = {}

    def add(self, batch: Batch, predictions: Tensor) -> None:
        """Consider the images of a batch, which the model takes for `predictions` (N,)."""
        # Odd multiples of what is a hash already: another order for every seed.
        priorities = ((batch.images.view(np.uint64) ^ self._salt) * np.uint64(0x9E3779B97F4A7C15)).tolist()
        labels, said = batch.y.tolist(), predictions.tolist()
        for label in labels:
            self._classes.setdefault(label, [])
        quota = self._quota()
        for row, (priority, label) in enumerate(zip(priorities, labels, strict=True)):
            members = self._classes[label]
            if len(members) >= quota and priority >= members[quota - 1].priority:
                continue
            image = batch.x[row].detach().clone().cpu()
            insort(members, Seen(priority, (batch.number, row), image, label, said[row]), key=_order)
            del members[quota:]
        if len(self._classes) > self._size:
            lowest = sorted(self._classes, key=lambda label: _order(self._classes[label][0]))[: self._size]
            self._classes = {label: self._classes[label] for label in lowest}

    def gather(self) -> None:
        """Put the samples of all processes together, so that each has that of the whole set."""
        found = gathered(self._classes)
        for label in sorted({label for classes in found for label in classes}):
            self._classes[label] = sorted((seen for classes in found for seen in classes.get(label, ())), key=_order)

    def images(self) -> list[Seen]:
        """Those that were kept, the first of every class before the second of any."""
        quota = self._quota()
        turns = [
            (turn, label, seen) for label, members in self._classes.items() for turn, seen in enumerate(members[:quota])
        ]
        return [seen for *_, seen in sorted(turns, key=lambda each: each[:2])][: self._size]

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The images (K, ...) and labels (K,) on `device`."""
        kept = self.images()
        if not kept:
            return torch.empty(0), torch.empty(0, dtype=torch.long)
        return torch.stack([seen.x for seen in kept]).to(device), torch.tensor([seen.y for seen in kept], device=device)

    def _quota(self) -> int:
        return -(-self._size // max(1, len(self._classes)))


def _order(seen: Seen) -> tuple[int, tuple[int, int]]:
    return seen.priority, seen.place
