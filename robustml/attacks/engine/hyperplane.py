"""The smallest step onto a hyperplane that stays inside the image box, in the norms inf, 2 and 1.

The projection of FAB (Croce & Hein 2020, arXiv:1907.02044, section 2.1). The paper sorts; here the L-infinity and L2
steps come from Newton's method on a concave, piecewise linear function, which ends at the exact root after a few passes
over the pixels and costs a fraction of a sort.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def step_onto_hyperplane(x: Tensor, normal: Tensor, offset: Tensor, p: float, bounds: tuple[float, float]) -> Tensor:
    """For each row the smallest step (in Lp) with ``normal . (x + step) = offset`` and ``x + step`` in the box.

    Where no point of the box lies on the hyperplane, the step to the corner of the box nearest to it.

    Args:
        x: points (..., N, D) in the box.
        normal: (N, D).
        offset: (N,).
        p: inf, 2 or 1.
        bounds: the box, for every coordinate.

    Returns:
        Steps (..., N, D).
    """
    low, high = bounds
    slope, sign = normal.abs(), normal.sign()
    needed = offset - torch.linalg.vecdot(x, normal)
    # Every step has to gain `needed` >= 0, along the normal or, where it was negative, against it.
    sign = sign * torch.where(needed < 0, -1.0, 1.0).unsqueeze(-1)
    needed = needed.abs()
    # high - x where the step goes up, x - low where it goes down. A mask of bools would take ten times as long.
    room = ((low + high) / 2 - x).mul_(sign).add_((high - low) / 2).clamp_min_(0)
    size = _fill_steepest_first(slope, room, needed) if p == 1 else _fill_evenly(slope, room, needed, p)
    return size.mul_(sign)


def _fill_evenly(slope: Tensor, room: Tensor, needed: Tensor, p: float) -> Tensor:
    """Sizes min(t * pace, room) that gain `needed`; the pace is 1 for L-infinity and the slope itself for L2."""
    tiny = torch.finfo(slope.dtype).tiny
    reach, rate = (room, slope) if p == math.inf else (room / slope.clamp_min(tiny), slope.square())
    t, moving = torch.zeros_like(needed), torch.empty_like(reach)
    # The gain of t is concave: each tangent's root lies left of the true one, so t only grows, and every pass fixes at
    # least one more coordinate at its room or ends.
    for _ in range(slope.shape[-1]):
        steepness = torch.linalg.vecdot(rate, torch.gt(reach, t.unsqueeze(-1), out=moving))
        gained = torch.linalg.vecdot(rate, torch.minimum(reach, t.unsqueeze(-1)))
        ahead = torch.where(steepness > tiny, t + (needed - gained) / steepness.clamp_min(tiny), math.inf)
        moved = ahead > t * (1 + 1e-6)
        t = torch.where(moved, ahead, t)
        if not (moved & t.isfinite()).any():
            break
    # Where the box ends first, t is infinite and times a slope of 0 not a number.
    t = t.clamp_max(torch.finfo(t.dtype).max).unsqueeze(-1)
    return torch.minimum(t if p == math.inf else t * slope, room)


def _fill_steepest_first(slope: Tensor, room: Tensor, needed: Tensor) -> Tensor:
    """Sizes up to `room` that gain `needed`, spent where a unit of length gains most."""
    order = slope.argsort(dim=-1, descending=True).expand_as(room)
    sorted_slope, sorted_room = slope.expand_as(room).gather(-1, order), room.gather(-1, order)
    gained = (sorted_slope * sorted_room).cumsum(dim=-1)
    before = torch.nn.functional.pad(gained, (1, 0))[..., :-1]
    wanted = (needed.unsqueeze(-1) - before).clamp_min(0) / sorted_slope.clamp_min(torch.finfo(slope.dtype).tiny)
    return torch.zeros_like(room).scatter(-1, order, torch.minimum(wanted, sorted_room))
