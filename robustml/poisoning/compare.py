"""Records against records: which of one set are in another, and which of those differ."""

from __future__ import annotations

import torch
from torch import Tensor

from robustml.data import Records


def matched(ids: Tensor, among: Tensor) -> Tensor:
    """Where each of the `ids` (N,) stands in `among` (K,): (N,), -1 where it does not."""
    if not len(among):
        return torch.full_like(ids, -1)
    known, order = among.sort()
    places = torch.searchsorted(known, ids).clamp_max(len(known) - 1)
    return torch.where(known[places] == ids, order[places], -1)


def differ(one: Records, rows: Tensor, other: Records, places: Tensor) -> tuple[Tensor, Tensor]:
    """Whose input, and whose label, differs between `rows` (K,) of one set and `places` (K,) of another, bit by bit.

    In parts, so that no second set is in memory.
    """
    inputs = torch.zeros(len(rows), dtype=torch.bool)
    for start in range(0, len(rows), 4096):
        part = slice(start, start + 4096)
        first, second = one.x[rows[part]].flatten(1), other.x[places[part]].flatten(1)
        if first.dtype == torch.float32:  # -0.0 equals 0.0 and is another record
            first, second = first.view(torch.int32), second.view(torch.int32)
        inputs[part] = (first != second).any(dim=1)
    return inputs, one.y[rows] != other.y[places]
