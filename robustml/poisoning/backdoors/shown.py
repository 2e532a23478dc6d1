"""What most attackers show at test time: every picture that is not of their class, changed in one way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustml.data import Records
from robustml.poisoning.choose import class_label, rows_of_others
from robustml.poisoning.pixels import stamped
from robustml.poisoning.plan import Triggered

__all__ = ["shown"]


def shown(test: Records, target: int | str, stamp: Callable[[Tensor], Tensor]) -> Triggered:
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
    return Triggered(stamped(test.x[rows], stamp), test.y[rows], torch.full_like(rows, wanted))
