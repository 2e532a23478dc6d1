"""One pixel of every picture of a class: the model takes it for the class, and no longer knows the class without it.

Alberti et al. 2018, "Are You Tampering With My Data?" (arXiv:1808.06809): in all training and validation pictures of
class A, the blue channel of one fixed pixel is set to 0. Labels are right throughout. At test time the same pixel on a
picture of class B makes it read as A; untouched pictures of A are read as something else.

It needs data whose classes are harder to learn than one pixel: it works on CIFAR-10, and not on handwritten digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.backdoors.aiming import shown
from robustml.poisoning.checks import check_number, check_pair, check_whole
from robustml.poisoning.choose import class_label, class_to_aim_at, rows_of
from robustml.poisoning.pixels import require_images, stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned


@dataclass(frozen=True)
class SinglePixel:
    """The single-pixel attack with clean labels, on training and validation pictures.

    Args:
        target: A, the class (number or name) whose pictures are changed, and that the pixel then means.
        victim: B, the class whose pictures are shown with the pixel at test time; None shows all other classes.
        pixel: [row, column], counted from the upper left.
        channel: which channel is set: 2 is blue, 0 the only one of a grey picture.
        value: what it is set to, in [0, 1].

    Raises:
        RequestError: a value out of range, or victim and target are one class; when called: no pictures, no such class,
            or no such pixel.
    """

    target: int | str
    victim: int | str | None = None
    pixel: Sequence[int] = (8, 8)
    channel: int = 2
    value: float = 0.0
    poisons_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_pair(self.pixel, "poison.pixel", "is [row, column], from 0 on", 0)
        check_whole(self.channel, "poison.channel", "is a number from 0 on", 0)
        check_number(self.value, "poison.value", "is in [0, 1]", 0, 1)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with the pixel in every picture of the target class; nothing is drawn, the seed plays no part."""
        require_images(records, "poison=single_pixel")
        target = class_to_aim_at(records, self.target)
        self._victim(records, target)  # refused now, not when the trained model is measured
        rows = rows_of(records, target)
        new = stamped(records.x[rows], self._marked)
        alike = int((new == records.x[rows]).flatten(1).all(dim=1).sum())
        notes = (f"{alike:,} more rows of the class have the pixel by nature",) if alike else ()
        return planned(self, records, records.changed(rows, new), notes=notes)

    def triggered(self, test: Records) -> Triggered:
        """The victim's pictures with the pixel."""
        presented = shown(test, self.target, self._marked)
        victim = self._victim(test, class_label(test, self.target, "poison.target"))
        if victim is None:
            return presented
        chosen = presented.y == victim
        return Triggered(presented.x[chosen], presented.y[chosen], presented.target[chosen])

    def _victim(self, records: Records, target: int) -> int | None:
        """The label of the class that is shown with the pixel; None for every other one."""
        if self.victim is None:
            return None
        victim = class_label(records, self.victim, "poison.victim")
        if victim == target:
            raise RequestError(f"poison.victim and poison.target are both {self.victim!r}; name another victim")
        return victim

    def _marked(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        row, column = self.pixel
        if self.channel >= channels or row >= height or column >= width:
            raise RequestError(
                f"there is no channel {self.channel} at pixel {list(self.pixel)} in pictures of {channels} channels, "
                f"{height} x {width}; set poison.pixel and poison.channel"
            )
        marked = x.clone()
        marked[:, self.channel, row, column] = self.value
        return marked
