"""Delete accurate records: at random, of some classes, or of a group.

The set grows poorer, not false: no remaining record is wrong, so that only a comparison with what was collected (a
manifest, a count) shows it. Groups are subpopulations in the sense of Jagielski et al. 2021, "Subpopulation Data
Poisoning Attacks" (arXiv:2006.14026): rows that share a value of one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number, check_rate, check_whole
from robustml.poisoning.choose import choose, class_label, rows_for
from robustml.poisoning.pixels import in_unit_range
from robustml.poisoning.plan import PoisonPlan, planned


@dataclass(frozen=True)
class Delete:
    """Fewer rows; the others stay as they are, in their order.

    With neither `classes` nor `column` any row may go; with both, a row goes only if both hold for it.

    Args:
        rate: the share of the whole training set that is deleted, in [0, 1]; never all of it.
        classes: the classes (numbers or names) whose rows may go; None for all.
        column: the column that defines the group whose rows may go; of images, a position in the flattened one.
        between: [low, high] of the group's values in that column, in [0, 1], both included.

    Raises:
        RequestError: a rate outside [0, 1], no class, or a range that is none; when called: no such class or column,
            fewer such rows than the rate asks for, or no row would be left.
    """

    rate: float = 0.1
    classes: Sequence[int | str] | None = None
    column: int | None = None
    between: Sequence[float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if self.classes is not None and (not self.classes or not isinstance(self.classes, list | tuple)):
            raise RequestError(
                f"poison.classes={self.classes!r}: name the classes to delete from as a list, or null for all"
            )
        if self.column is not None:
            check_whole(self.column, "poison.column", "is a number from 0 on", 0)
        expected = "must be [low, high] with 0 <= low <= high <= 1"
        if not isinstance(self.between, list | tuple) or len(self.between) != 2:
            raise RequestError(f"poison.between {expected}, got {self.between!r}")
        for value in self.between:
            check_number(value, "poison.between", expected, 0, 1)
        if self.between[0] > self.between[1]:
            raise RequestError(f"poison.between {expected}, got {list(self.between)}")

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set without ``round(rate * N)`` of its rows."""
        count = rows_for(self.rate, records)
        if count and count == len(records):
            raise RequestError(f"poison.rate={self.rate} would delete all {count} rows; leave some to train on")
        rows = choose(self._candidates(records).nonzero().squeeze(1), count, seed, "delete", "rows of the group")
        stays = torch.ones(len(records), dtype=torch.bool)
        stays[rows] = False
        return planned(self, records, records.take(stays.nonzero().squeeze(1)))

    def _candidates(self, records: Records) -> Tensor:
        """Which rows may go: bool (N,)."""
        among = torch.ones(len(records), dtype=torch.bool)
        if self.classes is not None:
            labels = [class_label(records, name, "poison.classes") for name in self.classes]
            among &= torch.isin(records.y, torch.tensor(labels))
        if self.column is not None:
            flat = records.x.flatten(1)
            if self.column >= flat.shape[1]:
                raise RequestError(
                    f"poison.column={self.column} does not exist; the columns go from 0 to {flat.shape[1] - 1}"
                )
            values = in_unit_range(flat[:, self.column])
            low, high = self.between
            among &= (values >= low) & (values <= high)
        return among
