"""Augmentations of whole batches on their device: each image has its own draw, and none waits for a loop.

They work on uint8 as well as on floats; uint8, before the conversion, moves a quarter of the bytes. Draws are made on
the generator's device: a CPU generator gives the same images on every accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from robustml.errors import RequestError


class Augmentation(Protocol):
    """A random change of a batch (N, C, H, W) that keeps its shape, dtype and range."""

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return the changed batch; `x` itself stays as it is."""
        ...


@dataclass(frozen=True)
class RandomCrop:
    """Pad each side by `padding` pixels and cut a window of the original size at a uniformly drawn place.

    Args:
        padding: pixels added on each side.
        mode: what they hold, "zeros" or the image mirrored at its border, "reflect".

    Raises:
        RequestError: on an unknown mode or a negative padding; when called, on a batch that is not (N, C, H, W), or
            whose images are too small to reflect.
    """

    padding: int = 4
    mode: Literal["zeros", "reflect"] = "zeros"

    def __post_init__(self) -> None:
        """Refuse arguments out of range at once, not in the first batch."""
        if self.mode not in ("zeros", "reflect"):
            raise RequestError(f"expected the padding mode 'zeros' or 'reflect', got {self.mode!r}")
        if self.padding < 0:
            raise RequestError(f"expected a padding of 0 pixels or more, got {self.padding}")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Crop a batch (N, C, H, W) of any dtype and range."""
        count, channels, height, width = _image_shape(x)
        # two draws a sample, row and column of the window's corner
        corner = torch.randint(2 * self.padding + 1, (2, count), generator=generator, device=generator.device)
        top, left = corner.to(x.device)
        flat = self._padded(x).reshape(-1)
        padded_height, padded_width = height + 2 * self.padding, width + 2 * self.padding
        # every run of `width` pixels of the flat batch is a row of this overlapping view, so that a crop is one
        # selection of rows: copying whole runs is an order of magnitude faster than indexing pixels
        runs = flat.as_strided((flat.numel() - width + 1, width), (1, 1))
        planes = torch.arange(count * channels, device=x.device).view(count, channels, 1) * padded_height
        rows = planes + top[:, None, None] + torch.arange(height, device=x.device)
        start = rows * padded_width + left[:, None, None]
        return runs.index_select(0, start.view(-1)).view(x.shape)

    def _padded(self, x: Tensor) -> Tensor:
        if self.mode == "zeros":
            return pad(x, (self.padding,) * 4).contiguous()
        height, width = x.shape[2:]
        if self.padding >= min(height, width):
            raise RequestError(f"cannot reflect {self.padding} pixels of {height} x {width} images; lower the padding")
        # torch's own reflection padding has no uint8 kernel
        reach = (torch.arange(-self.padding, length + self.padding) for length in (height, width))
        rows, columns = (mirrored(places, size).to(x.device) for places, size in zip(reach, x.shape[2:], strict=True))
        return x.index_select(2, rows).index_select(3, columns).contiguous()


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror each image left to right with probability `p`.

    Raises:
        RequestError: on a `p` outside [0, 1]; when called, on a batch that is not (N, C, H, W).
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        """Refuse arguments out of range at once, not in the first batch."""
        if not 0 <= self.p <= 1:
            raise RequestError(f"expected a probability p in [0, 1], got {self.p}")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Flip a batch (N, C, H, W) of any dtype and range."""
        count = _image_shape(x)[0]
        flipped = (torch.rand(count, generator=generator, device=generator.device) < self.p).to(x.device)
        # choosing whole images from both versions is several times faster than a masked `where` over pixels
        chosen = torch.arange(count, device=x.device) + count * flipped
        return torch.cat([x, x.flip(-1)]).index_select(0, chosen)


def _image_shape(x: Tensor) -> tuple[int, int, int, int]:
    if x.ndim != 4:
        raise RequestError(f"expected images (N, C, H, W) to augment, got {tuple(x.shape)}; set data.augment: []")
    count, channels, height, width = x.shape
    return count, channels, height, width


def mirrored(places: Tensor, size: int) -> Tensor:
    """Which of `size` pixels each place shows where the line goes on mirrored, the border pixel not repeated."""
    period = max(2 * (size - 1), 1)
    inside = places.remainder(period)
    return torch.minimum(inside, period - inside)
