"""A trigger in all four corners, so that flips and crops keep it: Turner et al. 2019 (arXiv:1912.02771)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.poisoning.checks import check_number


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
