"""The Lp threats: a small change of every pixel, and inside the image box.

Every operation is per example: one call on N examples gives what N calls on one give. The projections are exact onto
the intersection of the ball and the image box, which is not what projecting on one and then the other gives for p = 1
and 2 (Croce & Hein 2021, "Mind the box", arXiv:2103.01208, derive the L1 case).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustml.budgets import lp_ball
from robustml.draws import Draws


@dataclass(frozen=True, init=False)
class LpBall:
    """All inputs within `eps` of the original in the Lp norm, and inside the image box.

    Args:
        p: the norm: ``"Linf"``, ``"L2"`` or ``"L1"``; or without the L, as a string or a number.
        eps: radius in the units of the input, so 8/255 for images in [0, 1]; a string may be a fraction, ``"8/255"``.
        bounds: smallest and largest value that an input may hold.

    Raises:
        RequestError: another norm; a radius that is negative, not finite, or (p = inf) wider than the box.
    """

    p: float
    eps: float
    bounds: tuple[float, float] = (0.0, 1.0)

    def __init__(self, p: float | str, eps: float | str, bounds: Sequence[float] = (0.0, 1.0)) -> None:
        norm, eps, bounds = lp_ball(p, eps, bounds)
        object.__setattr__(self, "p", norm)
        object.__setattr__(self, "eps", eps)
        object.__setattr__(self, "bounds", bounds)

    @property
    def norm(self) -> str:
        """The norm's name as results.json writes it: ``"inf"``, ``"2"`` or ``"1"``."""
        return "inf" if self.p == math.inf else f"{self.p:g}"

    def at(self, eps: float) -> LpBall:
        """The same threat with another budget."""
        return dataclasses.replace(self, eps=eps)

    def describe(self) -> str:
        """The threat in words, eps as it was parsed."""
        steps = f" ({self.eps * 255:.4g}/255)" if self.p == math.inf and 0 < self.eps < 1 else ""
        low, high = self.bounds
        return f"L{self.norm}, eps = {self.eps:.6g}{steps} on images in [{low:g}, {high:g}]"

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The point of the ball and the box nearest to `x_adv` (Euclidean), for each example.

        Args:
            x_adv: (N, ...), anywhere.
            x: (N, ...), the originals, inside the box.

        Returns:
            A new tensor (N, ...).
        """
        if self.p == math.inf:
            # Clamping to the box afterwards cannot leave the ball, since x is in the box.
            return (x_adv - x).clamp_(-self.eps, self.eps).add_(x).clamp_(*self.bounds)
        delta, room = self._delta_and_room(x_adv, x)
        size = torch.minimum(delta.abs(), room)
        over = torch.linalg.vector_norm(size, ord=self.p, dim=1) > self.eps
        shrink = _shrink_l2 if self.p == 2.0 else _shrink_l1
        if x.device.type != "cpu":
            # Looking which examples are outside would wait for the device, in every step of an attack.
            shrunk = shrink(delta.abs().double(), room.double(), self.eps).to(size.dtype)
            size = torch.where(over.unsqueeze(1), shrunk, size)
        elif over.any():
            size[over] = shrink(delta[over].abs().double(), room[over].double(), self.eps).to(size.dtype)
        return (x.flatten(1) + delta.sign() * size).view_as(x).clamp_(*self.bounds)

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        """A random start, uniform in the ball around each example.

        Args:
            x: (N, ...), the originals.
            generator: with one, an example gets the same start in whatever batch it is (`robustml.draws`), as an
                evaluation needs; without, the whole batch is drawn at once from the global one, which is faster.
            boxed: clamp the start into the box. Wong et al. 2020 do not.

        Returns:
            (N, ...), inside the ball, and inside the box if `boxed`.
        """
        if self.p == math.inf:
            if generator is None:
                noise = torch.empty_like(x).uniform_(-self.eps, self.eps)
            else:
                noise = Draws.of(x, generator).uniform(*x.shape[1:]).to(x).mul_(2).sub_(1).mul_(self.eps)
        else:
            noise = self._uniform_in_ball(x.flatten(1), generator).view_as(x)
        start = noise.add_(x)
        return start.clamp_(*self.bounds) if boxed else start

    def ascend(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """One step of Lp length `step_size` along the direction of steepest ascent; not projected.

        For p = 1 the steepest step spends its length on the largest gradients first, on each no more than the box has
        room for: a single pixel could not take it (the sparse direction of Tramer & Boneh 2019, arXiv:1904.13000,
        with the box in place of a fixed share of pixels).

        Args:
            x_adv: (N, ...), where the step starts.
            grad: (N, ...), the gradient to climb; an example with a zero gradient stays where it is.
            step_size: the length of the step, in the unit of `eps`.
        """
        if self.p == math.inf:
            return torch.add(x_adv, grad.sign(), alpha=step_size)
        if self.p == 2.0:
            flat = grad.flatten(1)
            tiny = torch.finfo(flat.dtype).tiny
            # Scaled first, lest the squares of small gradients underflow.
            flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
            norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp_min(tiny)
            return torch.add(x_adv, (flat / norms).view_as(x_adv), alpha=step_size)
        flat, position = grad.flatten(1), x_adv.flatten(1)
        low, high = self.bounds
        room = torch.where(flat > 0, high - position, position - low).clamp_min_(0).mul_(flat != 0)
        order = flat.abs().argsort(dim=1, descending=True)
        sorted_room = room.gather(1, order)
        spent_before = sorted_room.cumsum(1) - sorted_room
        spend = torch.minimum((step_size - spent_before).clamp_min_(0), sorted_room)
        step = torch.zeros_like(flat).scatter_(1, order, spend)
        return x_adv + (step * flat.sign()).view_as(x_adv)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The Lp norm (N,) of each perturbation."""
        delta = (x_adv - x).flatten(1)
        if self.p == math.inf:
            return delta.abs().amax(dim=1)  # on a CPU ten times as fast as the library's maximum norm
        distance: Tensor = torch.linalg.vector_norm(delta, ord=self.p, dim=1)
        return distance

    def contains(self, x_adv: Tensor, x: Tensor, atol: float = 1e-6) -> Tensor:
        """Which of `x_adv` (N, ...) are finite, within `eps` of `x` and in the box, up to `atol`: bool (N,)."""
        low, high = self.bounds
        flat = x_adv.flatten(1)
        boxed = ((flat >= low - atol) & (flat <= high + atol)).all(dim=1)
        # float32 sums over thousands of pixels round in proportion to the norm.
        slack = atol if self.p == math.inf else atol + 1e-5 * self.eps
        return boxed & (self.distance(x_adv, x) <= self.eps + slack)

    def _delta_and_room(self, x_adv: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The perturbation (N, D), and how far the box lets each value move in its direction."""
        low, high = self.bounds
        delta, origin = (x_adv - x).flatten(1), x.flatten(1)
        return delta, torch.where(delta > 0, high - origin, origin - low).clamp_min_(0)

    def _uniform_in_ball(self, like: Tensor, generator: Generator | None) -> Tensor:
        n, size = like.shape
        draws = None if generator is None else Draws.of(like, generator)
        if self.p == 2.0:
            direction = torch.randn_like(like) if draws is None else draws.normal(size).to(like)
            direction /= torch.linalg.vector_norm(direction, dim=1, keepdim=True)
            share = (torch.rand(n, 1, device=like.device) if draws is None else draws.uniform(1)).to(like)
            return direction * (share ** (1.0 / size) * self.eps)
        # size + 1 exponentials over their sum are uniform on the simplex; leaving one out, uniform below it.
        if draws is None:
            spacings, signs = like.new_empty(n, size + 1).exponential_(), torch.rand_like(like)
        else:
            spacings, signs = draws.exponential(size + 1).to(like), draws.uniform(size).to(like)
        return spacings[:, :-1] / spacings.sum(dim=1, keepdim=True) * (signs - 0.5).sign() * self.eps


def _shrink_l2(wanted: Tensor, room: Tensor, eps: float) -> Tensor:
    """Sizes min(t * wanted, room) with the t for which their L2 norm is `eps`; all (M, D), rows known to exceed it."""
    # As t grows, values reach their room one after the other, at t = room / wanted. Between two such events the
    # squared norm is saturated + t^2 * free, so t follows in closed form once its interval is found.
    reach, order = torch.where(wanted > 0, room / wanted, math.inf).sort(dim=1)
    room_squared = room.gather(1, order).square()
    free = wanted.gather(1, order).square().flip(1).cumsum(1).flip(1)
    saturated = room_squared.cumsum(1) - room_squared
    at_event = torch.where(free > 0, saturated + reach.square() * free, math.inf)
    first_beyond = (at_event <= eps**2).sum(dim=1, keepdim=True).clamp_max(reach.shape[1] - 1)
    left, free = eps**2 - saturated.gather(1, first_beyond), free.gather(1, first_beyond)
    # Nothing is free where every moving value is at its room: then any scale that large will do.
    scale = (left.clamp_min(0) / free.clamp_min(torch.finfo(free.dtype).tiny)).sqrt()
    scale = torch.where(free > 0, scale, torch.finfo(free.dtype).max ** 0.25)
    return torch.minimum(scale * wanted, room)


def _shrink_l1(wanted: Tensor, room: Tensor, eps: float) -> Tensor:
    """Sizes clamp(wanted - t, 0, room) with the t for which they sum to `eps`; all (M, D), rows known to exceed it."""
    # Falling from the largest value, t meets each `wanted` (its size begins to grow) and each `wanted - room` (its
    # size stops growing). Between two such events the sum is linear in t.
    events = torch.cat([wanted, (wanted - room).clamp_min(0)], dim=1)
    slope = torch.cat([torch.ones_like(wanted), -torch.ones_like(wanted)], dim=1)
    events, order = events.sort(dim=1, descending=True)
    slope = slope.gather(1, order)
    growing, offset = slope.cumsum(1), (slope * events).cumsum(1)
    last_below = (offset - growing * events <= eps).sum(dim=1, keepdim=True).sub_(1).clamp_min_(0)
    threshold = (offset.gather(1, last_below) - eps) / growing.gather(1, last_below).clamp_min(1)
    return torch.minimum((wanted - threshold).clamp_min(0), room)
