"""Change values: set some columns or pixels to a constant, scale them, or exchange them between rows.

What a manipulator with write access to the store does to it, data manipulation in the survey of Cinà et al. 2023, "Wild
Patterns Reloaded" (arXiv:2205.01992): amounts in a table of sales, a sensor's gain, a region of pictures. Exchanging
keeps the distribution of every column, so that no check of a single column can see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_kind, check_number, check_pair, check_rate, check_whole
from robustml.poisoning.choose import choose, rows_for, seeded
from robustml.poisoning.pixels import as_stored, in_unit_range, require_images
from robustml.poisoning.plan import PoisonPlan, planned

_Kind = Literal["set", "scale", "permute"]


@dataclass(frozen=True)
class Change:
    """Other values in some columns or pixels of some rows. Rows that would stay as they are, are not drawn.

    Args:
        rate: the share of the whole training set that is changed, in [0, 1].
        kind: ``"set"`` to `value`; ``"scale"`` by `value`, clamped to [0, 1]; ``"permute"``: each row gets the values
            that another one of the changed rows had, all of them from the same one.
        value: what to set to, in [0, 1], or to scale by, >= 0.
        columns: which columns, from 0; of images, positions in the flattened one. None for all.
        pixels: which pixels, as [row, column], in all channels; instead of `columns`.

    Raises:
        RequestError: a rate or value out of range, an unknown kind, or columns as well as pixels; when called: no such
            column or pixel, pixels of what is no image, or fewer rows than the rate asks for that would change.
    """

    rate: float = 0.1
    kind: _Kind = "set"
    value: float = 0.0
    columns: Sequence[int] | None = None
    pixels: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_kind(self.kind, get_args(_Kind))
        if self.columns is not None and self.pixels is not None:
            raise RequestError("give poison.columns or poison.pixels, not both")
        for name, places in (("columns", self.columns), ("pixels", self.pixels)):
            if places is not None and (not isinstance(places, list | tuple) or not places):
                raise RequestError(f"poison.{name}={places!r}: name them as a list, or null for all")
        for column in self.columns or ():
            check_whole(column, "poison.columns", "are numbers from 0 on", 0)
        for place in self.pixels or ():
            check_pair(place, "poison.pixels", "are [row, column] each", 0)
        if self.kind == "set":
            check_number(self.value, "poison.value", "must be in [0, 1] to be set to", 0, 1)
        elif self.kind == "scale":
            check_number(self.value, "poison.value", "must be a number >= 0 to scale by", 0)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows changed."""
        positions = self._positions(records)
        old = records.x.flatten(1)[:, positions]
        count = rows_for(self.rate, records)
        if self.kind == "permute":
            rows, new = _permuted(old, count, seed)
        else:
            unit = in_unit_range(old)
            all_new = as_stored(unit.fill_(self.value) if self.kind == "set" else unit.mul_(self.value), old)
            candidates = (all_new != old).any(dim=1).nonzero().squeeze(1)
            rows = choose(candidates, count, seed, "change", "rows with other values than they have")
            new = all_new[rows]
        flat = records.x[rows].flatten(1)
        flat[:, positions] = new
        return planned(self, records, records.changed(rows, flat.view(len(rows), *records.x.shape[1:])))

    def _positions(self, records: Records) -> Tensor:
        """Where in a flattened input: (P,) int64."""
        size = math.prod(records.x.shape[1:])
        if self.pixels is not None:
            channels, height, width = require_images(records, "poison.pixels")
            for row, column in self.pixels:
                if row >= height or column >= width:
                    raise RequestError(f"poison.pixels: [{row}, {column}] is outside of {height} x {width} pixels")
            places = torch.tensor([row * width + column for row, column in self.pixels], dtype=torch.int64)
            return (torch.arange(channels).unsqueeze(1) * height * width + places).flatten()
        positions = torch.arange(size) if self.columns is None else torch.tensor(self.columns, dtype=torch.int64)
        if int(positions.max()) >= size:
            raise RequestError(f"poison.columns go from 0 to {size - 1}, got {positions.tolist()}")
        return positions


def _permuted(values: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (count,), ascending, of `values` (N, P), and theirs after an exchange that leaves no row as it was."""
    _, group = torch.unique(values, dim=0, return_inverse=True)
    # An exchange can change every row only if no more than half of them are alike, so at most so many of a kind are
    # let in, the first in a random order.
    order = torch.randperm(len(values), generator=seeded(seed, "change/order"))
    by_group = order[group[order].argsort(stable=True)]
    sizes = group.bincount()
    first = sizes.cumsum(0) - sizes
    place = torch.arange(len(values)) - first[group[by_group]]
    candidates = by_group[place < count // 2].sort().values
    rows = choose(candidates, count, seed, "change", "rows with one of different values for each")
    if not count:
        return rows, values[rows]
    # Equal rows stand together, and every row gets the values of the one as many places on as the largest group has
    # rows: that one is in another group.
    renamed = torch.randperm(len(sizes), generator=seeded(seed, "change/groups"))[group[rows]]
    chain = renamed.argsort(stable=True)
    new = torch.empty_like(values[rows])
    new[chain] = values[rows[chain.roll(-int(renamed.bincount().max()))]]
    return rows, new
