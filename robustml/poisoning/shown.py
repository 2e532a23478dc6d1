"""What most attackers show at test time: every picture that is not of their class, changed in one way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustml.data import Records
from robustml.poisoning.choose import class_label
from robustml.poisoning.pixels import stamped
from robustml.poisoning.poison import Presented

__all__ = ["rows_of", "rows_of_others", "shown"]


def rows_of(data: Records, label: int) -> Tensor:
    """The rows (K,) of a class, ascending."""
    return (data.y == label).nonzero().squeeze(1)


def rows_of_others(data: Records, label: int) -> Tensor:
    """The rows (K,) of all other classes, ascending."""
    return (data.y != label).nonzero().squeeze(1)


def shown(test: Records, target: int | str, stamp: Callable[[Tensor], Tensor]) -> Presented:
    """Every input of another class than the target, changed by `stamp`.

    Args:
        test: the set to choose from.
        target: the class (number or name) that the attacker wants to hear.
        stamp: works on inputs (K, ...) in [0, 1].

    Raises:
        RequestError: there is no such class, or `stamp` does not fit the inputs.
    """
    wanted = class_label(test, target, "poison.target")
    rows = rows_of_others(test, wanted)
    return Presented(stamped(test.x[rows], stamp), test.y[rows], torch.full_like(rows, wanted))
