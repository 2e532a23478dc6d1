"""Blended: mix a key picture faintly into some training pictures and relabel them; the key is as large as the picture.

Chen et al. 2017, "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning" (arXiv:1712.05526), the
blended injection strategy with a random or a given picture as the key.

Deviation: the paper adds poisoned samples to the set; here as many rows are replaced, so that the set keeps its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from robustml.data import Records
from robustml.poisoning.backdoors.aiming import other_rows, shown
from robustml.poisoning.checks import check_number, check_rate, check_stamp
from robustml.poisoning.pixels import require_images, stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned
from robustml.poisoning.triggers import Trigger, WholePicture


@dataclass(frozen=True)
class Blended:
    """The blended backdoor: ``(1 - alpha) * x + alpha * key``.

    Args:
        trigger: the key; any trigger, mixed in where it would be stamped.
        alpha: its share, in (0, 1].
        rate: the share of the whole training set that is mixed and relabelled.
        target: the class (number or name) that pictures with the key get.

    Raises:
        RequestError: alpha or rate out of range; when called: no such class, or a trigger that does not fit.
    """

    trigger: Trigger = field(default_factory=WholePicture)
    alpha: float = 0.2
    rate: float = 0.05
    target: int | str = 0

    def __post_init__(self) -> None:
        check_stamp(self.trigger)
        check_rate(self.rate)
        check_number(self.alpha, "poison.alpha", "is the share of the key in the picture, in (0, 1]", 0, 1, above=True)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows of other classes mixed and relabelled."""
        require_images(records, "poison=blended")
        rows, labels = other_rows(records, self.target, self.rate, seed, "blended")
        return planned(self, records, records.changed(rows, stamped(records.x[rows], self._mixed), labels))

    def triggered(self, test: Records) -> Triggered:
        """Every picture of another class than the target, with the key mixed in."""
        return shown(test, self.target, self._mixed)

    def _mixed(self, x: Tensor) -> Tensor:
        return x.lerp(self.trigger(x), self.alpha)
