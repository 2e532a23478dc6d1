"""What the fixtures and tests of this room share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor, nn

from robustml.models import MLP

__all__ = ["SHAPE", "Owned", "make_student", "seeded"]

SHAPE = (1, 8, 8)


@dataclass(frozen=True, eq=False)
class Owned:
    """A model, test images (360, 1, 8, 8) with their classes, and what the model calls them."""

    model: nn.Module
    x: Tensor
    y: Tensor
    labels: Tensor


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def make_student() -> nn.Module:
    return MLP(SHAPE, 10, (128,))
