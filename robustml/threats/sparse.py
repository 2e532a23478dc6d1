"""The L0 threat: a few pixels may take any value.

Croce & Hein 2019, "Sparse and imperceivable adversarial attacks" (arXiv:1909.05040), whose projection this is. PGD
under this threat is their PGD-L0; deviation: the length of a step is counted in pixels instead of an L1 norm, so that
a default which suits one image size suits another.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from robustml.budgets import PIXELS, box, whole_number
from robustml.draws import Draws

# A smaller change of a value is rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class SparseBall:
    """All inputs that differ from the original in at most `eps` pixels, and are inside the image box.

    In inputs (N, C, ...) a pixel is a place: its channels count once. In flat inputs (N, D) every value is a pixel.

    Args:
        eps: how many pixels may change, a whole number.
        bounds: smallest and largest value that an input may hold.

    Raises:
        RequestError: `eps` is not a whole number >= 0, or the bounds are no interval.
    """

    eps: float
    bounds: tuple[float, float] = (0.0, 1.0)
    norm: ClassVar[str] = "0"

    def __post_init__(self) -> None:
        """Check the values, and store them as plain floats."""
        object.__setattr__(self, "eps", whole_number(self.eps, PIXELS))
        object.__setattr__(self, "bounds", box(self.bounds))

    def at(self, eps: float) -> SparseBall:
        """The same threat with another budget."""
        return dataclasses.replace(self, eps=eps)

    def describe(self) -> str:
        """The threat in words."""
        return f"L0, any value in at most {self.eps:g} pixels"

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The feasible point nearest to `x_adv` (Euclidean): a new tensor (N, ...).

        Args:
            x_adv: (N, ...), anywhere.
            x: (N, ...), the originals, inside the box.
        """
        boxed = x_adv.clamp(*self.bounds)
        wanted, moved = x_adv - x, boxed - x
        # What moving a pixel saves of the squared distance: wanted^2 - (wanted - moved)^2.
        saved = by_pixel(moved * (2 * wanted - moved)).sum(dim=1)
        return torch.where(where_pixel(self._largest(saved), x), boxed, x)

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        """`eps` random pixels of each example (N, ...), set to uniformly random values of the box.

        Args:
            x: (N, ...), the originals.
            generator: where to draw from; the global one by default. An example draws the same in any batch.
            boxed: without effect: what is drawn lies in the box.
        """
        pixels = by_pixel(x).shape[2]
        draws = Draws.of(x, generator)
        low, high = self.bounds
        chosen = self._largest(draws.uniform(pixels))
        values = low + (high - low) * draws.uniform(*x.shape[1:]).to(x)
        return torch.where(where_pixel(chosen, x), values, x)

    def ascend(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """One step along the gradient; not projected.

        Args:
            x_adv: (N, ...), where the step starts.
            grad: (N, ...), the gradient to climb; an example with a zero gradient stays where it is.
            step_size: in pixels: the `eps` pixels with the largest gradients together move across the box so often.
        """
        strength = by_pixel(grad).abs().amax(dim=1)
        leading = strength.topk(self._count(strength), dim=1).values.sum(dim=1)
        width, tiny = self.bounds[1] - self.bounds[0], torch.finfo(grad.dtype).tiny
        # Over the tiniest number a long step is infinite, and times a gradient of 0 not a number.
        scale = torch.where(leading > 0, width * step_size / leading.clamp_min(tiny), 0)
        return x_adv + grad * scale.view(-1, *[1] * (grad.ndim - 1)) if self.eps else x_adv.clone()

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """How many pixels (N,) of each example are changed by more than rounding (1e-6)."""
        changed = (by_pixel(x_adv) - by_pixel(x)).abs().amax(dim=1) > _ROUNDING
        return changed.sum(dim=1).to(x.dtype)

    def contains(self, x_adv: Tensor, x: Tensor, atol: float = 1e-6) -> Tensor:
        """Which of `x_adv` (N, ...) are finite, in the box up to `atol`, and changed in `eps` pixels at most."""
        low, high = self.bounds
        flat = x_adv.flatten(1)
        boxed = ((flat >= low - atol) & (flat <= high + atol)).all(dim=1)
        return boxed & (self.distance(x_adv, x) <= self.eps)

    def _count(self, pixels: Tensor) -> int:
        return min(int(self.eps), pixels.shape[1])

    def _largest(self, score: Tensor) -> Tensor:
        """Where the `eps` largest scores of each row are: bool (N, P)."""
        chosen = score.topk(self._count(score), dim=1).indices
        return torch.zeros_like(score, dtype=torch.bool).scatter_(1, chosen, True)


def by_pixel(x: Tensor) -> Tensor:
    """Inputs (N, C, ...) as (N, C, P), flat inputs (N, D) as (N, 1, D)."""
    return x.flatten(1).unsqueeze(1) if x.ndim < 3 else x.flatten(2)


def where_pixel(chosen: Tensor, x: Tensor) -> Tensor:
    """A mask of pixels (N, P) in a shape that broadcasts over the inputs `x`."""
    return chosen.view_as(x) if x.ndim < 3 else chosen.view(len(x), 1, *x.shape[2:])
