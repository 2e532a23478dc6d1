"""What all corruptions share: their signature, the table that a severity is looked up in, and where they draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Generator, Tensor

from robustml.draws import Draws
from robustml.errors import RequestError

SEVERITIES = (1, 2, 3, 4, 5)

Level = TypeVar("Level")
Source = Generator | Draws | None
"""Where numbers come from: one generator for the whole batch, a stream of each image's own, or the global generator."""

_SMALL, _LARGE = 32, 224  # sides of the images for which the tables were published
_SMALLEST = 8  # below, kernels are larger than images and nothing can be recognised anyway


class Corruption(Protocol):
    """A change of images (N, C, H, W) in [0, 1] that keeps shape, dtype and range; `x` itself stays as it is."""

    def __call__(self, x: Tensor, severity: int, generator: Source = None) -> Tensor:
        """Corrupt each image at `severity` 1 to 5, drawing from `generator` alone (the global one by default)."""
        ...


def at_severity(x: Tensor, severity: int, small: Sequence[Level], large: Sequence[Level]) -> Level:
    """The parameters of a corruption, once images and severity are found to be what it takes.

    Args:
        x: images (N, C, H, W) in [0, 1].
        severity: 1 to 5.
        small: a row a severity, as CIFAR-10-C was made; for images of up to 32 pixels on the longer side.
        large: as ImageNet-C was made; for all others.

    Raises:
        RequestError: `x` is not float images in [0, 1] with 1 or 3 channels and at least 8 x 8 pixels, or there is no
            such severity.
    """
    if severity not in SEVERITIES:
        raise RequestError(f"a severity must be 1, 2, 3, 4 or 5, got {severity!r}")
    if not (x.ndim == 4 and x.shape[1] in (1, 3) and min(x.shape[2:]) >= _SMALLEST):
        raise RequestError(
            f"corruptions are for images (N, 1 or 3, H, W) of at least {_SMALLEST} x {_SMALLEST} pixels, got "
            f"{tuple(x.shape)}; set evaluation.corruptions to null for other data"
        )
    # written so that a NaN fails it too
    if not x.is_floating_point() or (len(x) and not (float(x.min()) >= -1e-6 and float(x.max()) <= 1 + 1e-6)):
        raise RequestError(
            f"corruptions are for float images in [0, 1], got {x.dtype} with other values: divide by 255"
        )
    table = small if max(x.shape[2:]) <= _SMALL else large
    return table[severity - 1]


def length_scale(x: Tensor) -> float:
    """What the table's lengths in pixels are multiplied with for images (N, C, H, W)."""
    side = max(x.shape[2:])
    return 1.0 if side <= _SMALL else side / _LARGE


def normal(x: Tensor, shape: Sequence[int], generator: Source) -> Tensor:
    """Standard normal draws (N, ...) of the dtype and on the device of `x` (N, ...), made on the generator's."""
    if isinstance(generator, Draws):
        return generator.normal(*shape[1:]).to(x)
    device = None if generator is None else generator.device
    return torch.randn(tuple(shape), dtype=x.dtype, device=device, generator=generator).to(x.device)


def uniform(x: Tensor, shape: Sequence[int], generator: Source, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draws (N, ...) from [low, high) of the dtype and on the device of `x` (N, ...), made on the generator's."""
    if isinstance(generator, Draws):
        return generator.uniform(*shape[1:]).to(x).mul_(high - low).add_(low)
    device = None if generator is None else generator.device
    draws = torch.rand(tuple(shape), dtype=x.dtype, device=device, generator=generator)
    return draws.mul_(high - low).add_(low).to(x.device)
