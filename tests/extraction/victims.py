"""What the fixtures and tests of this room share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor, nn

from robustml.extraction import Extraction, Pool, Reference, Victim
from robustml.models import MLP

__all__ = ["SHAPE", "Owned", "copied", "make_student", "seeded"]

SHAPE = (1, 8, 8)


@dataclass(frozen=True, eq=False)
class Owned:
    """A model, and what its copies are held against: test images (360, 1, 8, 8), their classes, its answers."""

    model: nn.Module
    reference: Reference

    @property
    def x(self) -> Tensor:
        return self.reference.x


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def make_student() -> nn.Module:
    return MLP(SHAPE, 10, (128,))


def copied(method: Extraction, victim: Victim, pool: Pool, generator: Generator | None = None) -> nn.Module:
    """Ask, then fit a copy to all that was answered."""
    heard = method.ask(victim, pool, make_student, generator=generator)
    return method.fit(heard, make_student, generator=generator)
