"""Between the bytes that a set stores and the numbers in [0, 1] that methods are written in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError

# Of a byte: how far float32 arithmetic in [0, 1] may be from the whole byte that was meant.
_FUZZ = 1e-4


def in_unit_range(x: Tensor) -> Tensor:
    """Inputs (N, ...) as float32 in [0, 1]."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.clone()


def as_stored(x: Tensor, like: Tensor) -> Tensor:
    """Inputs in [0, 1] in the dtype of `like`: rounded to the nearest byte for images, clamped for others."""
    if like.dtype == torch.uint8:
        return x.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    return x.clamp(0, 1).to(like.dtype)


def stored_within(x_adv: Tensor, x: Tensor) -> Tensor:
    """Perturbed inputs as stored, no value farther from the clean one than it was before.

    Rounding to the nearest byte makes 26/255 of an eps of 0.1, which is 25.5/255. An attacker who may change a value
    by 0.1 can store a change of 25/255: changes are rounded towards the clean byte, so that no norm of them grows.

    Args:
        x_adv: (N, ...) in [0, 1].
        x: (N, ...) the clean inputs, as stored.
    """
    if x.dtype != torch.uint8:
        return as_stored(x_adv, x)
    change = x_adv.mul(255).sub_(x)
    whole = change.abs().add_(_FUZZ).floor_().mul_(change.sign())
    return whole.add_(x).clamp_(0, 255).to(torch.uint8)


def stamped(x: Tensor, stamp: Callable[[Tensor], Tensor]) -> Tensor:
    """Inputs (N, ...) as stored, each changed by `stamp`, which works on numbers in [0, 1]."""
    return as_stored(stamp(in_unit_range(x)), x)


def require_images(records: Records, what: str) -> tuple[int, int, int]:
    """Channels, height and width.

    Raises:
        RequestError: the set does not hold images (N, C, H, W).
    """
    if records.x.ndim != 4:
        found = tuple(records.x.shape)
        raise RequestError(f"{what} changes pixels, so it needs images (N, C, H, W); got inputs {found}")
    channels, height, width = records.x.shape[1:]
    return channels, height, width
