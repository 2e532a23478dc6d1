"""The patch threat: every value inside one square may change, wherever the square lies.

Karmon, Zoran, Goldberg 2018, "LaVAN: localized and visible adversarial noise" (arXiv:1801.02608): a patch made for one
image, in place of the one that Brown et al. 2017 (arXiv:1712.09665) make for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional

from robustml.budgets import SIDE, box, whole_number
from robustml.draws import Draws
from robustml.errors import RequestError

# A smaller change of a value is rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Patch:
    """All images (N, C, H, W) that differ from the original inside one square only, and are inside the image box.

    Args:
        eps: side of the square in pixels, a whole number.
        corner: row and column of its upper left pixel; anywhere if None.
        bounds: smallest and largest value that an image may hold.

    Raises:
        RequestError: `eps` is not a whole number >= 0, the corner is no place in an image, or the bounds are no
            interval. Later: inputs are not images, or the square does not fit into them.
    """

    eps: float
    corner: Sequence[int] | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    norm: ClassVar[str] = "patch"

    def __post_init__(self) -> None:
        """Check the values, and store them as plain ones."""
        object.__setattr__(self, "eps", whole_number(self.eps, SIDE))
        object.__setattr__(self, "bounds", box(self.bounds))
        if self.corner is not None:
            corner = tuple(self.corner)
            if len(corner) != 2 or not all(isinstance(place, int) and place >= 0 for place in corner):
                raise RequestError(f"a patch's corner is (row, column), whole numbers >= 0; got {self.corner!r}")
            object.__setattr__(self, "corner", corner)

    def at(self, eps: float) -> Patch:
        """The same threat with another budget."""
        return dataclasses.replace(self, eps=eps)

    def describe(self) -> str:
        """The threat in words."""
        place = "anywhere" if self.corner is None else "with the upper left pixel at row {}, column {}"
        return f"a patch of {self.eps:g} x {self.eps:g} pixels, {place.format(*self.corner or ())}"

    def corners(self, x: Tensor) -> Tensor:
        """Every place (P, 2) that the patch may take in images `x` (N, C, H, W): row and column of its corner.

        Raises:
            RequestError: `x` are not images, or the patch does not fit into them.
        """
        if x.ndim != 4:
            raise RequestError(f"a patch needs images (N, C, H, W), got inputs of shape {tuple(x.shape)}")
        rows, columns = (side - int(self.eps) + 1 for side in x.shape[2:])
        if self.corner is None and min(rows, columns) > 0:
            return torch.cartesian_prod(torch.arange(rows, device=x.device), torch.arange(columns, device=x.device))
        if self.corner is None or self.corner[0] >= rows or self.corner[1] >= columns:
            raise RequestError(f"{self.describe()}, does not fit into images of {x.shape[2]} x {x.shape[3]} pixels")
        return torch.tensor([self.corner], device=x.device)

    def square(self, corner: Tensor, x: Tensor) -> Tensor:
        """Which pixels the patch covers: bool (N, 1, H, W), for a `corner` (N, 2) of each of the images `x`."""
        covered = []
        for axis in (0, 1):
            first = corner[:, axis].unsqueeze(1)
            place = torch.arange(x.shape[2 + axis], device=x.device)
            covered.append((place >= first) & (place < first + self.eps))
        return (covered[0].unsqueeze(2) & covered[1].unsqueeze(1)).unsqueeze(1)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The feasible image nearest to `x_adv` (Euclidean): a new tensor (N, C, H, W).

        Args:
            x_adv: (N, C, H, W), anywhere.
            x: (N, C, H, W), the originals, inside the box.
        """
        corners = self.corners(x)
        if not self.eps:
            return x.clone()
        boxed = x_adv.clamp(*self.bounds)
        wanted, moved = x_adv - x, boxed - x
        # What moving a pixel saves of the squared distance: wanted^2 - (wanted - moved)^2. In double precision, lest
        # a place that holds all of the change but a little be taken for one that holds all.
        saved = (moved * (2 * wanted - moved)).double().sum(dim=1, keepdim=True)
        within = functional.avg_pool2d(saved, int(self.eps), stride=1)
        best = within[:, 0, corners[:, 0], corners[:, 1]].argmax(dim=1)
        return torch.where(self.square(corners[best], x), boxed, x)

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        """A patch of uniformly random values of the box at a random place of each image (N, C, H, W).

        Args:
            x: (N, C, H, W), the originals.
            generator: where to draw from; the global one by default. An example draws the same in any batch.
            boxed: without effect: what is drawn lies in the box.
        """
        corners = self.corners(x)
        draws = Draws.of(x, generator)
        low, high = self.bounds
        place = (draws.uniform(1).squeeze(1) * len(corners)).long()
        values = low + (high - low) * draws.uniform(*x.shape[1:]).to(x)
        return torch.where(self.square(corners[place], x), values, x)

    def ascend(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """One step along the sign of the gradient; a step of `eps` crosses the box. Not projected.

        Args:
            x_adv: (N, C, H, W), where the step starts.
            grad: (N, C, H, W), the gradient to climb.
            step_size: the length of the step, in the unit of `eps`.
        """
        width = self.bounds[1] - self.bounds[0]
        return torch.add(x_adv, grad.sign(), alpha=width * step_size / self.eps if self.eps else 0.0)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The side (N,) in pixels of the smallest square that holds all that changed by more than rounding (1e-6)."""
        changed = self._changed(x_adv, x)
        sides = torch.stack([_extent(changed.any(dim=2)), _extent(changed.any(dim=1))])
        return sides.amax(dim=0).to(x.dtype)

    def contains(self, x_adv: Tensor, x: Tensor, atol: float = 1e-6) -> Tensor:
        """Which of `x_adv` (N, C, H, W) are finite, in the box up to `atol`, and changed inside one patch only."""
        low, high = self.bounds
        flat = x_adv.flatten(1)
        inside = ((flat >= low - atol) & (flat <= high + atol)).all(dim=1) & (self.distance(x_adv, x) <= self.eps)
        if self.corner is None:
            return inside
        beyond = self._changed(x_adv, x) & ~self.square(self.corners(x), x)[:, 0]
        return inside & ~beyond.flatten(1).any(dim=1)

    def _changed(self, x_adv: Tensor, x: Tensor) -> Tensor:
        self.corners(x)
        return (x_adv - x).abs().amax(dim=1) > _ROUNDING


def _extent(touched: Tensor) -> Tensor:
    """From the first to the last True of each row of `touched` (N, D), both counted: (N,); 0 where there is none."""
    first = touched.int().argmax(dim=1)
    after_last = touched.shape[1] - touched.flip(1).int().argmax(dim=1)
    return (after_last - first) * touched.any(dim=1)
