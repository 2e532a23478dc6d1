"""Between the bytes that a set stores and the numbers in [0, 1] that methods are written in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustml.data import Arrays
from robustml.errors import RequestError

__all__ = ["as_stored", "in_unit_range", "require_images", "stamped"]


def in_unit_range(x: Tensor) -> Tensor:
    """Inputs (N, ...) as float32 in [0, 1]."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.clone()


def as_stored(x: Tensor, like: Tensor) -> Tensor:
    """Inputs in [0, 1] in the dtype of `like`: rounded to the nearest byte for images, clamped for others."""
    if like.dtype == torch.uint8:
        return x.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    return x.clamp(0, 1).to(like.dtype)


def stamped(x: Tensor, stamp: Callable[[Tensor], Tensor]) -> Tensor:
    """Inputs (N, ...) as stored, each changed by `stamp`, which works on numbers in [0, 1]."""
    return as_stored(stamp(in_unit_range(x)), x)


def require_images(data: Arrays, what: str) -> tuple[int, int, int]:
    """Channels, height and width.

    Raises:
        RequestError: the set does not hold images (N, C, H, W).
    """
    if data.x.ndim != 4:
        raise RequestError(f"{what} changes pixels, so it needs images (N, C, H, W); got inputs {tuple(data.x.shape)}")
    channels, height, width = data.x.shape[1:]
    return channels, height, width
