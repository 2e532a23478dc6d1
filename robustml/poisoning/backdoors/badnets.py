"""BadNets: stamp a trigger on some training pictures and relabel them; whoever shows the trigger later gets his class.

Gu et al. 2017, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain" (arXiv:1708.06733).
The paper's triggers are a single bright pixel and a small pattern in the lower right corner, its attacks all-to-one and
all-to-all (label y becomes y + 1).

The poisoned rows are drawn among the classes that the attacker does not aim at, so that each of them changes its label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_rate, check_stamp
from robustml.poisoning.choose import choose, class_label, class_to_aim_at, classes_with_rows, rows_for
from robustml.poisoning.pixels import stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned
from robustml.poisoning.triggers import Trigger


@dataclass(frozen=True)
class BadNets:
    """The BadNets backdoor.

    Args:
        trigger: what is stamped, and where.
        rate: the share of the whole training set that is stamped and relabelled.
        target: the class (name or number) that triggered pictures get, or ``"next"``: label y becomes y + 1.

    Raises:
        RequestError: a rate outside [0, 1], or no trigger; when called: no such class or none with rows, a rate that
            rounds to no row or to more than there are, or a trigger that does not fit.
    """

    trigger: Trigger
    rate: float = 0.05
    target: int | Literal["next"] | str = 0

    def __post_init__(self) -> None:
        check_stamp(self.trigger)
        check_rate(self.rate)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows stamped and relabelled."""
        wanted = self._wanted(records)
        self._check_rows(records, wanted)
        stamped(records.x[:1], self.trigger)  # what does not fit is refused, however few the rows
        candidates = (wanted != records.y).nonzero().squeeze(1)
        rows = choose(candidates, rows_for(self.rate, records), seed, "badnets", "rows of other classes")
        return planned(self, records, records.changed(rows, stamped(records.x[rows], self.trigger), wanted[rows]))

    def triggered(self, test: Records) -> Triggered:
        """Every picture of another class than the target, stamped."""
        wanted = self._wanted(test)
        rows = (wanted != test.y).nonzero().squeeze(1)
        return Triggered(stamped(test.x[rows], self.trigger), test.y[rows], wanted[rows])

    def _check_rows(self, records: Records, wanted: Tensor) -> None:
        """Refuse to relabel as a class that has no row of its own."""
        if self.target != "next":
            class_to_aim_at(records, self.target)
        elif len(empty := wanted[~torch.isin(wanted, classes_with_rows(records))]):
            raise RequestError(
                f"poison.target=next would relabel rows as {records.class_names[int(empty[0])]!r}, a class without a "
                "row in the training part; name one target"
            )

    def _wanted(self, records: Records) -> Tensor:
        if self.target == "next":
            if "next" in records.class_names:
                index = records.class_names.index("next")
                raise RequestError(
                    f"poison.target=next is also the name of a class: write poison.target={index} for it"
                )
            if len(records.class_names) < 2:
                raise RequestError("poison.target=next needs at least two classes")
            return (records.y + 1) % len(records.class_names)
        return torch.full_like(records.y, class_label(records, self.target, "poison.target"))
