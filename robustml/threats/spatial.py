"""The spatial threat: the image, rotated and shifted.

Engstrom et al. 2019, "Exploring the landscape of spatial robustness" (arXiv:1712.02779). Whether an image is some
rotation of another cannot be told from the two. So the threat is the finite set that the paper's grid attack walks
through, `rotations` angles times `shifts` x `shifts` translations, and an image belongs to it if one of them renders
it. Resampling is bilinear; what comes in from outside is black (the lower bound), as in the paper.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional

from robustml.budgets import SPATIAL, box, share
from robustml.errors import RequestError

# Two devices that render one transform differ by rounding.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Spatial:
    """All images (N, C, H, W) that a rotation about the centre, then a translation, makes of the original.

    Args:
        degrees: the largest rotation, in degrees, either way; 0 to 180.
        shift: the largest translation, as a share of the side, in each of four directions; 0 to 1.
        eps: the share of both limits that the attacker may use, 0 to 1.
        rotations: angles on the grid between -degrees and degrees; odd, so that one of them is 0.
        shifts: translations on the grid along each axis, likewise.
        bounds: smallest and largest value that an image may hold.

    Raises:
        RequestError: a value is out of its range. Later: inputs are not images.
    """

    degrees: float = 30.0
    shift: float = 0.1
    eps: float = 1.0
    rotations: int = 31
    shifts: int = 5
    bounds: tuple[float, float] = (0.0, 1.0)
    norm: ClassVar[str] = "spatial"

    def __post_init__(self) -> None:
        """Check the values, and store them as plain ones."""
        for name, largest in SPATIAL.items():
            object.__setattr__(self, name, share(getattr(self, name), name, largest))
        for name in ("rotations", "shifts"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1 or count % 2 == 0:
                raise RequestError(f"threat {name} must be an odd whole number, so that 0 is among them; got {count!r}")
        object.__setattr__(self, "bounds", box(self.bounds))

    def at(self, eps: float) -> Spatial:
        """The same threat with another budget."""
        return dataclasses.replace(self, eps=eps)

    def describe(self) -> str:
        """The threat in words."""
        return (
            f"rotation up to {self.eps * self.degrees:g} degrees and shifts up to {self.eps * self.shift:.3g} of the "
            f"side, {len(self.transforms()[0])} in all"
        )

    def transforms(self, eps: float | None = None) -> tuple[Tensor, Tensor]:
        """What the attacker may choose from, the smallest first.

        Args:
            eps: another share of the limits than the threat's own.

        Returns:
            (T, 3): the angle in degrees, counter-clockwise, and the shifts down and right as shares of the height and
            width; and the size (T,) of each in the unit of eps, the largest of its three shares of the limits.
        """
        allowed = self.eps if eps is None else eps
        angles = _levels(self.rotations, self.degrees)
        moves = _levels(self.shifts, self.shift)
        grid = torch.tensor(list(itertools.product(angles, moves, moves)), dtype=torch.float64)
        size, order = grid.abs().amax(dim=1).sort(stable=True)
        within = size <= allowed + 1e-9
        return (grid * torch.tensor([self.degrees, self.shift, self.shift]))[order][within], size[within]

    def render(self, x: Tensor, transform: Tensor) -> Tensor:
        """Images `x` (N, C, H, W), rotated and shifted.

        Args:
            x: (N, C, H, W) in the box.
            transform: rows of `transforms`: (N, 3), one for each image, or (1, 3) for all of them.

        Raises:
            RequestError: `x` are not images.
        """
        if x.ndim != 4:
            raise RequestError(f"rotations need images (N, C, H, W), got inputs of shape {tuple(x.shape)}")
        low, high = self.bounds
        transform = transform.to(x.device)
        source = _source(transform, *x.shape[2:]).to(x.dtype).expand(len(x), -1, -1, -1)
        rendered = functional.grid_sample(x - low, source, "bilinear", "zeros", align_corners=False) + low
        # Resampling at the pixels' own places would still round.
        moves = (transform != 0).any(dim=1).view(-1, 1, 1, 1)
        return torch.where(moves, rendered.clamp_(low, high), x)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The rendered image nearest to `x_adv` (Euclidean): a new tensor (N, C, H, W); renders all of them.

        Args:
            x_adv: (N, C, H, W), anywhere.
            x: (N, C, H, W), the originals, inside the box.
        """
        nearest, smallest = x.clone(), torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
        for transform in self.transforms()[0].unsqueeze(1):
            rendered = self.render(x, transform)
            gap = (x_adv - rendered).flatten(1).square().sum(dim=1)
            closer = gap < smallest
            nearest[closer], smallest[closer] = rendered[closer], gap[closer]
        return nearest

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        """Each image (N, C, H, W) under a random transform of the grid.

        Args:
            x: (N, C, H, W), the originals.
            generator: where to draw from, on the device of `x`; the global one by default.
            boxed: without effect: rendered images lie in the box.
        """
        transforms, _ = self.transforms()
        chosen = torch.randint(len(transforms), (len(x),), generator=generator, device=x.device)
        return self.render(x, transforms[chosen.cpu()])

    def ascend(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """Refused: no step in pixels leads from one rotation to the next.

        Raises:
            RequestError: always.
        """
        raise RequestError("rotations and shifts cannot be reached by gradient steps in pixels: use attack=spatial")

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The size (N,) of the smallest transform that renders `x_adv` from `x`, 0 to 1; infinite where none does."""
        found = torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
        unknown = torch.arange(len(x), device=x.device)
        for transform, size in zip(*self.transforms(eps=1.0), strict=True):
            rendered = self.render(x[unknown], transform.unsqueeze(0))
            same = (rendered - x_adv[unknown]).flatten(1).abs().amax(dim=1) <= _ROUNDING
            found[unknown[same]] = float(size)
            unknown = unknown[~same]
            if not len(unknown):
                break
        return found

    def contains(self, x_adv: Tensor, x: Tensor, atol: float = 1e-6) -> Tensor:
        """Which of `x_adv` (N, C, H, W) are what an allowed transform makes of `x`, and in the box up to `atol`."""
        low, high = self.bounds
        flat = x_adv.flatten(1)
        boxed = ((flat >= low - atol) & (flat <= high + atol)).all(dim=1)
        return boxed & (self.distance(x_adv, x) <= self.eps + 1e-9)


def _levels(count: int, limit: float) -> list[float]:
    """Shares -1 to 1 of a limit, `count` of them; only 0 where the limit allows nothing else."""
    if count == 1 or limit == 0:
        return [0.0]
    return [2 * step / (count - 1) - 1 for step in range(count)]


def _source(transform: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel comes from, as `grid_sample` counts places: (M, H, W, 2) for `transform` (M, 3)."""
    radians = (transform[:, 0] * (math.pi / 180)).view(-1, 1, 1)
    row = torch.arange(height, dtype=torch.float64, device=transform.device).view(1, -1, 1)
    column = torch.arange(width, dtype=torch.float64, device=transform.device).view(1, 1, -1)
    row = row - (height - 1) / 2 - height * transform[:, 1].view(-1, 1, 1)
    column = column - (width - 1) / 2 - width * transform[:, 2].view(-1, 1, 1)
    # The inverse of a counter-clockwise rotation in a picture, whose rows count downwards.
    from_column = column * radians.cos() - row * radians.sin()
    from_row = column * radians.sin() + row * radians.cos()
    return torch.stack([2 * from_column / width, 2 * from_row / height], dim=-1)
