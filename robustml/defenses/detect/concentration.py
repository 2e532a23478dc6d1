"""Whether what a detector flags is a poison, or what it flags of clean records too.

A threshold that passes 99 clean records in a hundred flags some of every set. Poison is laid into one class or a few,
so that far more records of a class are flagged than of the clean records of that class. Fisher's exact test says
whether that may be chance; that the difference must also be large keeps out what a model's memory of its training
records does, which are the easier ones for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_CHANCE = 0.05
_EXCESS = 0.15
_RATIO = 0.4


class Concentration(NamedTuple):
    """One class: the shares of its records and of its clean ones that are flagged, and how likely that is by chance."""

    label: int
    share: float
    clean_share: float
    chance: float


def concentrations(flagged: Tensor, labels: Tensor, clean_flagged: Tensor, clean_labels: Tensor) -> list[Concentration]:
    """The classes where far more is flagged than of clean records; most of all first.

    A class counts where the share exceeds that of its clean records by 0.15 more than in the median class, is 2.5 times
    as large, and would come by chance less than once in 20 times. Clean sets are small, 18 records a class on digits,
    and two of them must not hide what 67 of 187 records say; that the excess is large is what keeps clean models out.

    Args:
        flagged: (N,) bool, of the records.
        labels: (N,) of them.
        clean_flagged: (M,) bool, of the clean ones.
        clean_labels: (M,) of those; a class of which there is no clean record says nothing.
    """
    from scipy.stats import fisher_exact  # a second, which whoever only names a detector need not wait

    found: list[tuple[float, Concentration]] = []
    for label in sorted(set(labels.tolist()) & set(clean_labels.tolist())):
        own, clean = flagged[labels == label], clean_flagged[clean_labels == label]
        table = [[int(part.sum()), int((~part).sum())] for part in (own, clean)]
        share, clean_share = (row[0] / sum(row) for row in table)
        chance = float(fisher_exact(np.array(table), "greater").pvalue)
        found.append((share - clean_share, Concentration(label, share, clean_share, chance)))
    if not found:
        return []
    usual = float(torch.tensor([excess for excess, _ in found], dtype=torch.float64).median())
    out = [
        (excess, each)
        for excess, each in found
        if excess - usual > _EXCESS and each.clean_share <= _RATIO * each.share and each.chance < _CHANCE
    ]
    return [each for _, each in sorted(out, reverse=True)]


def told(classes: list[Concentration]) -> dict[str, object]:
    """Those classes as facts of a `Suspicion`."""
    return {"classes": [each.label for each in classes]} | (
        {"share": classes[0].share, "clean_share": classes[0].clean_share, "chance": classes[0].chance}
        if classes
        else {}
    )
