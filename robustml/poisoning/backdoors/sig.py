"""SIG: add a faint sinusoid to some pictures of one class and leave their labels alone; stripes then mean that class.

Barni, Kallas and Tondi 2019, "A New Backdoor Attack in CNNs by Training Set Corruption Without Label Poisoning"
(arXiv:1902.11237): v(i, j) = delta * sin(2 pi j f / m), j being the column and m the number of columns.

Deviation: the paper's pictures are grey; on colour pictures every channel gets the same stripes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.data import Records
from robustml.poisoning.backdoors.aiming import largest_change, own_rows, shown
from robustml.poisoning.checks import check_number, check_rate
from robustml.poisoning.pixels import require_images, stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned


@dataclass(frozen=True)
class SIG:
    """The sinusoid backdoor with clean labels.

    Args:
        strength: the sinusoid's amplitude in training pictures, of a range of 1.
        shown_strength: the amplitude at test time; None is `strength`. The paper shows stronger stripes than it plants.
        frequency: periods across the picture.
        rate: the share of the whole training set that is changed; with ten classes alike, 0.05 is half of one class.
        target: the class (number or name) whose pictures are changed, and that stripes then mean.

    Raises:
        RequestError: an amplitude, a frequency or a rate out of range; when called: no pictures, no such class, or too
            few pictures of it.
    """

    strength: float = 20 / 255
    shown_strength: float | None = None
    frequency: float = 6
    rate: float = 0.05
    target: int | str = 0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        for name, value in (("strength", self.strength), ("shown_strength", self.shown_strength)):
            if value is not None:
                check_number(value, f"poison.{name}", "is an amplitude in (0, 1], such as 20/255", 0, 1, above=True)
        expected = "is in periods across the picture, above 0"
        check_number(self.frequency, "poison.frequency", expected, 0, above=True)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows of the target class striped; all labels are kept."""
        columns = require_images(records, "poison=sig")[2]
        rows = own_rows(records, self.target, self.rate, seed, "sig")
        old = records.x[rows]
        new = stamped(old, lambda x: self._striped(x, self.strength))
        notes: tuple[str, ...] = ()
        if 2 * self.frequency > columns:
            seen = abs(self.frequency - columns * round(self.frequency / columns))
            notes = (f"{columns} columns cannot show {self.frequency:g} periods: what they show is {seen:g}",)
        budget = largest_change("strength", self.strength, new, old)
        return planned(self, records, records.changed(rows, new), budget=budget, notes=notes)

    def triggered(self, test: Records) -> Triggered:
        """Every picture of another class than the target, striped."""
        strength = self.strength if self.shown_strength is None else self.shown_strength
        return shown(test, self.target, lambda x: self._striped(x, strength))

    def _striped(self, x: Tensor, strength: float) -> Tensor:
        columns = x.shape[3]
        phase = torch.arange(columns, dtype=torch.float64) * (2 * math.pi * self.frequency / columns)
        return (x + (strength * phase.sin()).to(x)).clamp_(0, 1)
