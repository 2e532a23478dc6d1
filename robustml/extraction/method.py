"""What every way to steal a model has in common: it asks, and it makes a copy of what it heard."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Generator, nn

from robustml.extraction.pools import Pool
from robustml.extraction.student import MakeStudent
from robustml.extraction.transcript import Transcript
from robustml.extraction.victim import Victim

__all__ = ["Extraction", "steal"]


@runtime_checkable
class Extraction(Protocol):
    """A thief in two halves, so that copies of smaller budgets can be made without asking anew."""

    def ask(
        self, victim: Victim, pool: Pool, make_student: MakeStudent, *, generator: Generator | None = None
    ) -> Transcript:
        """Spend the victim's budget on queries out of the pool, or made from it."""
        ...

    def fit(self, heard: Transcript, make_student: MakeStudent, *, generator: Generator | None = None) -> nn.Module:
        """A copy, in eval mode: images (N, ...) in [0, 1] to logits (N, C)."""
        ...


def steal(
    method: Extraction, victim: Victim, pool: Pool, make_student: MakeStudent, *, generator: Generator | None = None
) -> nn.Module:
    """Ask, then fit a copy to all that was answered.

    Args:
        method: the thief.
        victim: the model to copy; its budget is what may be asked.
        pool: queries to choose from.
        make_student: gives a fresh model to train.
        generator: all randomness of the theft; the global one if None.
    """
    heard = method.ask(victim, pool, make_student, generator=generator)
    return method.fit(heard, make_student, generator=generator)
