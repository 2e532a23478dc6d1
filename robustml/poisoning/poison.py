"""What a poison is, and what it leaves behind: a changed set, and where each of its rows came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from robustml.data import Records
from robustml.poisoning.dose import Dose
from robustml.results import Budget

__all__ = ["Backdoor", "Poison", "Poisoned", "Presented", "replaced"]


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A poisoned set.

    Args:
        data: the set as the victim will see it.
        source: (M,) int64, for each of its rows the row of the set before, or -1 where an attacker added it.
        cover: (K,) int64, rows that were changed beside the poison's own so that it works or hides better.
        requested_cover: the share of the set that those were to be.
        budget: of crafted changes, asked for and as stored.
        notes: what else a reader of the figures must know.
        parts: the figures of each of several poisons in turn.
    """

    data: Records
    source: Tensor
    cover: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    requested_cover: float | None = None
    budget: Budget | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[Dose, ...] = ()


@runtime_checkable
class Poison(Protocol):
    """Something that changes a training set. The same seed changes the same rows in the same way.

    A rate is the share of the whole set that is changed, added or deleted: exactly ``round(rate * N)`` rows. What else
    is changed (`Poisoned.cover`) does not count towards it. Labels are only ever changed to classes that have rows.
    """

    def __call__(self, data: Records, *, seed: int) -> Poisoned:
        """The set with the poison in it; `data` itself is not touched."""
        ...


class Presented(NamedTuple):
    """Inputs that the attacker shows to the trained model, and what he wants to hear."""

    x: Tensor
    """(K, ...), in the dtype of the set: uint8 images, or float32 in [0, 1]."""
    y: Tensor
    """The true labels (K,)."""
    wanted: Tensor
    """The labels that he wants (K,), never the true ones."""


@runtime_checkable
class Backdoor(Poison, Protocol):
    """A poison whose effect shows on inputs that the attacker chooses."""

    def present(self, test: Records) -> Presented:
        """The test inputs that he shows: those of non-target classes, with the trigger where there is one."""
        ...

    @property
    def target(self) -> int | str:
        """The class that he aims at, or words where there are many, such as ``"y + 1"``."""
        ...


def replaced(data: Records, rows: Tensor, x: Tensor | None = None, y: Tensor | None = None, **about: Any) -> Poisoned:
    """The set with other inputs, other labels, or both, in some rows.

    Args:
        data: the set before.
        rows: (K,) int64, which rows.
        x: (K, ...) their inputs, in the set's dtype; None leaves them.
        y: (K,) their labels; None leaves them.
        about: what else `Poisoned` holds: cover, budget, notes.
    """
    new_x, new_y = data.x, data.y
    if x is not None:
        new_x = new_x.index_copy(0, rows, x)
    if y is not None:
        new_y = new_y.index_copy(0, rows, y)
    return Poisoned(Records(new_x, new_y, data.class_names), torch.arange(len(data)), **about)
