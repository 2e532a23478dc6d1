"""What an interface may do to its answers to be worth less to a thief, and costs whoever asks honestly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.extraction.copycat import hard_labels
from robustml.extraction.victim import QueriesRefused, Victim

__all__ = ["Defended", "Defense", "Remembering", "Rounding", "TopLabel", "Watch"]


@runtime_checkable
class Defense(Protocol):
    """Changes the answers of an interface, or watches them."""

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """The probabilities (N, C) to give out for inputs `x` (N, ...) in place of `probabilities` (N, C)."""
        ...


@runtime_checkable
class Watch(Defense, Protocol):
    """A defense that may take a client for a thief."""

    @property
    def alarm_after(self) -> int | None:
        """How many queries it had seen when it did; None if it has not."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A defense that keeps something of the queries it has seen."""

    @property
    def held(self) -> int:
        """How many bytes that takes."""
        ...


class Defended:
    """A victim behind a defense: itself a victim. Requests after an alarm are refused.

    Args:
        victim: whom to ask.
        defense: what happens to the answers.
    """

    def __init__(self, victim: Victim, defense: Defense) -> None:
        self.victim = victim
        self.defense = defense

    @property
    def queries(self) -> int:
        """How many inputs were asked so far."""
        return self.victim.queries

    @property
    def remaining(self) -> int:
        """How many may still be asked."""
        return self.victim.remaining

    @property
    def batch_size(self) -> int:
        """How many inputs one request should hold."""
        return self.victim.batch_size

    @property
    def alarm_after(self) -> int | None:
        """How many queries had been asked when the defense raised an alarm; None if it has not."""
        return self.defense.alarm_after if isinstance(self.defense, Watch) else None

    def __call__(self, x: Tensor) -> Tensor:
        """Probabilities (N, C) for `x` (N, ...), as the defense gives them out.

        Raises:
            QueriesRefused: the defense has raised an alarm.
            BudgetSpent: N is more than remain.
        """
        if self.alarm_after is not None:
            raise QueriesRefused(f"the interface took its client for a thief after {self.alarm_after} queries")
        return self.defense(x, self.victim(x))


@dataclass(frozen=True)
class TopLabel:
    """Tells the label and nothing else, as a row with a single 1."""

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """One-hot rows (N, C)."""
        return hard_labels(probabilities)


@dataclass(frozen=True)
class Rounding:
    """Rounds probabilities to `digits` decimals, and scales each row to a sum of 1 again.

    A row in which nothing is left gets its label alone. Rounding hides nothing from whoever may ask about many inputs:
    along a path of inputs, the places where an answer jumps tell the probability there as exactly as one likes.

    Args:
        digits: decimals, 1 or more.

    Raises:
        RequestError: fewer than 1.
    """

    digits: int = 2

    def __post_init__(self) -> None:
        """Refuse what would leave nothing."""
        if self.digits < 1:
            raise RequestError(f"defense.digits must be at least 1, got {self.digits}; for labels only, defense=top1")

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """Rounded rows (N, C)."""
        # float32 cannot hold most decimals, and its rounding would give them away
        rounded = probabilities.double().round(decimals=self.digits)
        total = rounded.sum(dim=1, keepdim=True)
        return torch.where(total > 0, rounded / total.clamp_min(10**-self.digits), hard_labels(probabilities.double()))
