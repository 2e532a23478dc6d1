"""Label-consistent: make pictures of one class hard to read, put the trigger on them, and leave their labels alone.

Turner, Tsipras and Madry 2019, "Label-Consistent Backdoor Attacks" (arXiv:1912.02771), the variant that perturbs by an
attack on another model: what is hard to recognise makes the model rely on the trigger. In training the trigger may be
fainter than at test time, and in all four corners, so that flips and crops keep it.

Deviation: the surrogate is whatever model is given; the paper's are adversarially trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number, check_rate, check_stamp, check_whole
from robustml.poisoning.choose import choose, class_to_aim_at, rows_for, seeded
from robustml.poisoning.pixels import in_unit_range, require_images, stamped
from robustml.poisoning.poison import Poisoned, Presented, replaced
from robustml.poisoning.shown import rows_of, shown
from robustml.poisoning.surrogate import attacked, borrowed, budget_of
from robustml.poisoning.trigger import Trigger
from robustml.progress import track
from robustml.types import Attack

__all__ = ["FourCorners", "LabelConsistent"]


@dataclass(frozen=True)
class FourCorners:
    """A small pattern of bright and dark pixels in each corner, mirrored so that flips map the corners on each other.

    Args:
        rows: the pattern of the lower right corner, row by row: 1 brightens a pixel, 0 darkens it, None leaves it.
        amplitude: by how much, of a range of 1: 1 paints the pixels white and black.

    Raises:
        RequestError: no pattern, or an amplitude out of range; when called: two corners would overlap.
    """

    rows: Sequence[Sequence[float | None]] = ((0, 0, 1), (0, 1, 0), (1, 0, 1))
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no pattern."""
        if not self.rows or len({len(row) for row in self.rows}) != 1 or not self.rows[0]:
            raise RequestError("trigger.rows must be rows of one length, of 0, 1 or null")
        if any(value not in (0, 1, None) for row in self.rows for value in row):
            raise RequestError("trigger.rows may hold 0, 1 and null only")
        check_number(self.amplitude, "trigger.amplitude", "must be in (0, 1]", 0, 1, above=True)

    def __call__(self, x: Tensor) -> Tensor:
        """The pictures (N, C, H, W) with the pattern in their corners."""
        corner = torch.tensor([[0.0 if value is None else 2.0 * value - 1 for value in row] for row in self.rows])
        height, width = corner.shape
        if x.ndim != 4 or 2 * height > x.shape[2] or 2 * width > x.shape[3]:
            raise RequestError(
                f"four corners of {height} x {width} pixels do not fit into inputs {tuple(x.shape)}; choose a smaller "
                "trigger.rows"
            )
        change = torch.zeros(x.shape[2:])
        change[-height:, -width:] = corner
        # each corner is written once, for the pattern fits twice into either side
        change = change + change.flip(1)
        change = change + change.flip(0)
        return (x + self.amplitude * change.to(x)).clamp_(0, 1)


@dataclass(frozen=True, eq=False)
class LabelConsistent:
    """The label-consistent backdoor.

    Args:
        surrogate: images (N, C, H, W) in [0, 1] to logits; lent in eval mode, handed back as found.
        attack: makes the pictures hard to read for the surrogate.
        trigger: stamped on the perturbed pictures.
        shown_trigger: stamped at test time; None is `trigger`. The paper plants it fainter than it shows it.
        rate: the share of the whole training set that is changed, all of it of the target class.
        target: the class (number or name) whose pictures are changed, and that the trigger then means.
        batch_size: pictures to attack at once.

    Raises:
        RequestError: a rate outside [0, 1]; when called: no pictures, no such class, too few pictures of it, or a
            trigger that does not fit.
    """

    surrogate: nn.Module
    attack: Attack
    trigger: Trigger = field(default_factory=FourCorners)
    shown_trigger: Trigger | None = None
    rate: float = 0.05
    target: int | str = 0
    batch_size: int = 250

    def __post_init__(self) -> None:
        """Refuse what could only fail after the surrogate was attacked."""
        check_rate(self.rate)
        check_stamp(self.trigger)
        if self.shown_trigger is not None:
            check_stamp(self.shown_trigger, "poison.shown_trigger")
        check_whole(self.batch_size, "poison.batch_size", "must be a whole number of at least 1", 1)

    def __call__(self, data: Records, *, seed: int) -> Poisoned:
        """The set with ``round(rate * N)`` rows of the target class perturbed and stamped; all labels are kept."""
        require_images(data, "poison=label_consistent")
        own = rows_of(data, class_to_aim_at(data, self.target))
        rows = choose(own, rows_for(self.rate, data), seed, "label_consistent", f"rows of class {self.target}")
        generator = seeded(seed, "label_consistent attack")
        for trigger in (self.trigger, self.shown_trigger):  # what does not fit is refused before the attack
            if trigger is not None:
                trigger(in_unit_range(data.x[:1]))
        changed, pairs = data.x[rows], []
        with borrowed(self.surrogate) as device:
            for part in track(torch.split(torch.arange(len(rows)), self.batch_size), "crafting poison"):
                x = changed[part]
                x_adv = attacked(self.attack, self.surrogate, x, data.y[rows[part]], generator, device)
                pairs.append((x_adv, x))
                changed[part] = stamped(x_adv, self.trigger)
        return replaced(data, rows, changed, budget=budget_of(self.attack, pairs))

    def present(self, test: Records) -> Presented:
        """Every picture of another class than the target, stamped."""
        return shown(test, self.target, self.trigger if self.shown_trigger is None else self.shown_trigger)
