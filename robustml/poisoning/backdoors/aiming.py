"""What backdoors share: which rows they take, and what most attackers show at test time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustml.data import Records
from robustml.poisoning.choose import choose, class_label, class_to_aim_at, rows_for, rows_of, rows_of_others
from robustml.poisoning.pixels import in_unit_range, stamped
from robustml.poisoning.plan import Triggered
from robustml.results import Budget


def own_rows(records: Records, target: int | str, rate: float, seed: int, purpose: str) -> Tensor:
    """``round(rate * N)`` rows of the target class, ascending: those of poisons that keep the labels."""
    own = rows_of(records, class_to_aim_at(records, target))
    return choose(own, rows_for(rate, records), seed, purpose, f"rows of class {target}")


def other_rows(records: Records, target: int | str, rate: float, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """``round(rate * N)`` rows of other classes, ascending, and the label of the target for each."""
    label = class_to_aim_at(records, target)
    others = rows_of_others(records, label)
    rows = choose(others, rows_for(rate, records), seed, purpose, "rows of other classes")
    return rows, torch.full_like(rows, label)


def cover_rows(records: Records, taken: Tensor, rate: float, name: str, seed: int, purpose: str) -> Tensor:
    """``round(rate * N)`` rows beside those that are `taken`, ascending; `name` is the option of the rate."""
    is_left = torch.ones(len(records), dtype=torch.bool)
    is_left[taken] = False
    left = is_left.nonzero().squeeze(1)
    return choose(left, rows_for(rate, records, name), seed, purpose, "rows beside the relabelled")


def largest_change(name: str, asked: float, new: Tensor, old: Tensor) -> Budget:
    """The largest change of any value between inputs (N, ...) as stored, of a range of 1, beside what was asked for."""
    stored = float((in_unit_range(new) - in_unit_range(old)).abs().max()) if len(new) else 0.0
    return Budget(name=name, asked=asked, stored=stored)


def shown(test: Records, target: int | str, stamp: Callable[[Tensor], Tensor]) -> Triggered:
    """Every input of another class than the target, changed by `stamp`, which works on inputs (K, ...) in [0, 1].

    Raises:
        RequestError: there is no such class, or `stamp` does not fit the inputs.
    """
    wanted = class_label(test, target, "poison.target")
    rows = rows_of_others(test, wanted)
    return Triggered(stamped(test.x[rows], stamp), test.y[rows], torch.full_like(rows, wanted))
