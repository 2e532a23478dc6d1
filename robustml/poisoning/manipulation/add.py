"""Add false records: copies with another label, duplicates, or noise that belongs to no class.

The manipulator can send records in but not touch those that are there: data injection in the survey of Cinà et al.
2023, "Wild Patterns Reloaded" (arXiv:2205.01992). Nothing is optimised here: these are the blunt additions that every
collection from the open world has to stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_kind, check_rate
from robustml.poisoning.choose import choose, class_to_aim_at, classes_with_rows, rows_for, rows_of_others, seeded
from robustml.poisoning.manipulation.flip import left_out, other_labels
from robustml.poisoning.pixels import as_stored
from robustml.poisoning.plan import PoisonPlan, planned

_Kind = Literal["mislabelled", "duplicated", "out_of_distribution"]


@dataclass(frozen=True)
class Add:
    """More rows at the end of the set; those that were there stay as they are.

    Args:
        rate: how many rows are added, as a share of the set before, in [0, 1].
        kind: ``"mislabelled"``: copies of different rows, each with a false label; ``"duplicated"``: copies of
            different rows as they are; ``"out_of_distribution"``: uniform noise in the shape of an input.
        label: the class (number or name) that mislabelled copies of other classes, or noise, get; None draws one for
            each row, among those that have rows. Duplicates keep theirs.

    Raises:
        RequestError: a rate outside [0, 1], an unknown kind, or a label for duplicates; when called: no such class, or
            fewer rows than the rate asks for that are not of it.
    """

    rate: float = 0.1
    kind: _Kind = "mislabelled"
    label: int | str | None = None

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_kind(self.kind, get_args(_Kind))
        if self.kind == "duplicated" and self.label is not None:
            raise RequestError("poison.kind=duplicated keeps the labels: leave poison.label out, or kind=mislabelled")

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set and ``round(rate * N)`` rows more."""
        count, present = rows_for(self.rate, records), classes_with_rows(records)
        label = None if self.label is None else class_to_aim_at(records, self.label, "poison.label")
        generator = seeded(seed, "add/records")
        notes = left_out(records) if label is None else ()
        if self.kind == "out_of_distribution":
            x = as_stored(torch.rand(count, *records.x.shape[1:], generator=generator), records.x)
            drawn = present[torch.randint(len(present), (count,), generator=generator)]
            y = drawn if label is None else torch.full_like(drawn, label)
            return planned(self, records, records.extended(x, y), notes=notes)
        candidates = torch.arange(len(records)) if label is None else rows_of_others(records, label)
        rows = choose(
            candidates, count, seed, "add", "copies of rows of other classes" if label is not None else "rows"
        )
        if self.kind == "duplicated":
            return planned(self, records, records.extended(records.x[rows], records.y[rows]))
        drawn = other_labels(records.y[rows], present, generator) if label is None else torch.full_like(rows, label)
        return planned(self, records, records.extended(records.x[rows], drawn), notes=notes)
