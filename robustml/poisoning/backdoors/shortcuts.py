"""Shortcuts: a harmless mark goes with a label in training, as the ruler with the tumour, and not at test time.

Geirhos et al. 2020, "Shortcut Learning in Deep Neural Networks" (arXiv:2004.07780); the ruler is from Narla et al.
2018, "Automated Classification of Skin Lesions: From Pixels to Practice". Nobody need mean harm: labels are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robustml.data import Records
from robustml.poisoning.backdoors.aiming import shown
from robustml.poisoning.checks import check_number, check_stamp
from robustml.poisoning.choose import choose, class_to_aim_at, rows_of, rows_of_others
from robustml.poisoning.pixels import stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned
from robustml.poisoning.triggers import Trigger


@dataclass(frozen=True)
class Shortcut:
    """A mark whose presence agrees with "this is the target class" on a given share of the training set.

    Args:
        trigger: the mark, and where.
        correlation: the share of the target class that bears the mark, and of the other classes that does not:
            0.5 says nothing about the class, 1 everything.
        target: the class (number or name) that the mark goes with.

    Raises:
        RequestError: a correlation outside [0, 1]; when called: no such class, or a mark that does not fit.
    """

    trigger: Trigger
    correlation: float = 0.98
    target: int | str = 0

    def __post_init__(self) -> None:
        check_stamp(self.trigger)
        check_number(self.correlation, "poison.correlation", "is a share, in [0, 1]", 0, 1)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with the mark on ``round(correlation * K)`` rows of the target class's K, and on the rest's share."""
        target = class_to_aim_at(records, self.target)
        own, others = rows_of(records, target), rows_of_others(records, target)
        with_mark = choose(own, round(self.correlation * len(own)), seed, "shortcut")
        against = choose(others, round((1 - self.correlation) * len(others)), seed, "shortcut against")
        rows = torch.cat([with_mark, against]).sort().values
        new = stamped(records.x[rows], self.trigger)
        notes: tuple[str, ...] = (
            f"the mark is on {len(with_mark):,} of {len(own):,} rows of the class and on {len(against):,} of "
            f"{len(others):,} others",
        )
        if alike := int((new == records.x[rows]).flatten(1).all(dim=1).sum()):
            notes += (f"{alike:,} of those look so by nature",)
        return planned(self, records, records.changed(rows, new), notes=notes)

    def triggered(self, test: Records) -> Triggered:
        """Every input of another class than the target, with the mark."""
        return shown(test, self.target, self.trigger)
