"""FMN, the fast minimum-norm attack: a ball around each example shrinks while it holds an adversarial one, else grows.

Pintor, Roli, Brendel, Biggio, "Fast minimum-norm adversarial attacks through adaptive norm constraints", NeurIPS 2021,
arXiv:2102.12827. Deviations:

- a step is a share of the current radius, for p = inf along the sign of the gradient (the paper: a fixed Euclidean
  length to be tuned for each model), and both step sizes decay to zero;
- an iterate is clipped to the box before it is projected onto the ball, not after, which costs no budget, and for p = 1
  projected onto both at once;
- the first-order estimate of the distance to the boundary is overshot by the current `eps_step`: on a linear piece of
  the model the estimate is the boundary itself, where rounding would decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.attacks.engine.losses import Goal, adversarial_lead
from robustml.attacks.engine.setup import Target, choose_target, require_counts, required
from robustml.deadline import keeping
from robustml.errors import RequestError
from robustml.threats import LpBall
from robustml.types import Threat

_EUCLIDEAN = LpBall(2, 0.0)
_DUAL = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}


@dataclass(frozen=True)
class FMN:
    """The fast minimum-norm attack, from the original; nothing is random but a random target.

    Args:
        steps: forward and input-gradient passes; the first looks at the start.
        relative_step_size: length of the first step as a multiple of the radius; decays to zero along a cosine.
        eps_step: by which share a ball first shrinks or grows (gamma in the paper); decays likewise.
        target: as for PGD: None to be taken for any wrong class.

    Raises:
        RequestError: settings out of range; when called: another threat than an `LpBall`.
    """

    steps: int = 100
    relative_step_size: float = 0.5
    eps_step: float = 0.05
    target: Target = None

    gives_up: ClassVar[bool] = True
    """What it does not turn comes back as it was."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        require_counts(self, "steps")
        if not self.relative_step_size > 0:
            raise RequestError(f"FMN needs relative_step_size > 0, got {self.relative_step_size}")
        if not 0 < self.eps_step < 1:
            raise RequestError(f"FMN needs eps_step between 0 and 1, got {self.eps_step}")

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an Lp ball: the norm and the box; `eps` only decides what `__call__` gives back."""
        return required(LpBall, threat, "FMN needs an Lp threat (inf, 2 or 1)")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """What `smallest` finds for `x` (N, ...) with labels `y` (N,) where that lies in the threat, elsewhere `x`."""
        x_adv = self.smallest(model, x, y, threat, generator=generator)
        inside = threat.contains(x_adv, x)
        return torch.where(inside.view(-1, *[1] * (x.ndim - 1)), x_adv, x.detach())

    def smallest(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        generator: Generator | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """The nearest adversarial example found for each of `x`, in the box but however far; `x` where none was.

        Args:
            model: in the mode it shall be attacked in.
            x: (N, ...), the originals, in the box.
            y: (N,), their labels.
            threat: the norm and the box.
            generator: where a random target is drawn from.
            start: (N, ...), images in the box to begin at, best adversarial ones, which are then shrunk; the originals
                by default.
        """
        ball = self.check_threat(threat)
        with crafting(model, x, y, x if start is None else start) as (x, y, start):
            goal = Goal(y, choose_target(self.target, model, x, y, generator))
            x_adv = self._search(model, x, goal, start, ball)
            if goal.target is None:
                return x_adv
            return torch.where((goal.target == y).view(-1, *[1] * (x.ndim - 1)), x, x_adv)

    def _search(self, model: nn.Module, x: Tensor, goal: Goal, start: Tensor, ball: LpBall) -> Tensor:
        """The nearest iterates (N, ...) that reach the goal; copies of `x` where none did."""
        origin, x_adv = x.flatten(1), start.flatten(1)
        low, high = ball.bounds
        best = origin
        eps = best_norm = torch.full_like(origin[:, 0], torch.inf)
        widest = torch.linalg.vector_norm(torch.full_like(origin[0], high - low), ord=ball.p)
        for step in range(self.steps):
            decay = (1 + math.cos(math.pi * step / self.steps)) / 2
            with keeping(lambda best=best: best.view_as(x)):  # type: ignore[misc]
                gradient, logits = input_gradient(
                    model, x_adv.view_as(x), lambda logits: adversarial_lead(logits, goal)
                )
            gradient = gradient.flatten(1)
            norm = torch.linalg.vector_norm(x_adv - origin, ord=ball.p, dim=1)
            reached = goal.reached(logits)
            better = reached & (norm < best_norm)
            best = torch.where(better.unsqueeze(1), x_adv, best)
            best_norm = torch.where(better, norm, best_norm)
            slope = torch.linalg.vector_norm(gradient, ord=_DUAL[ball.p], dim=1)
            to_boundary = adversarial_lead(logits, goal).abs().to(norm) / slope.clamp_min(torch.finfo(slope.dtype).tiny)
            grown = torch.where(best_norm.isinf(), norm + to_boundary, eps) * (1 + self.eps_step * decay)
            shrunk = torch.minimum(eps, best_norm) * (1 - self.eps_step * decay)
            # No longer than the box is wide: a vanishing gradient makes the estimate infinite.
            eps = torch.where(reached, shrunk, grown).minimum(widest)
            moved = x_adv + _direction(gradient, ball.p) * (self.relative_step_size * decay * eps).unsqueeze(1)
            x_adv = _into_ball(moved, origin, eps.unsqueeze(1), ball)
        return best.view_as(x)


def _direction(gradient: Tensor, p: float) -> Tensor:
    if p == math.inf:
        return gradient.sign()
    return _EUCLIDEAN.ascend(torch.zeros_like(gradient), gradient, 1.0)


def _into_ball(moved: Tensor, origin: Tensor, eps: Tensor, ball: LpBall) -> Tensor:
    """Points (N, D) brought into the box and the balls of radii (N, 1) around `origin` (N, D)."""
    low, high = ball.bounds
    # In the box first: shrinking towards the origin, which is in the box, cannot leave it again.
    delta = moved.clamp(low, high) - origin
    if ball.p == math.inf:
        delta = delta.clamp(-eps, eps)
    elif ball.p == 2.0:
        norm = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
        delta = delta * (eps / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1)
    else:
        delta = _shrink_l1(moved - origin, delta.abs(), eps)
    # Adding may round past the edge of the box.
    return (origin + delta).clamp_(low, high)


def _shrink_l1(delta: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """Sizes clamp(|delta| - t, 0, room), (N, D), with the smallest t >= 0 for which they sum to at most eps (N, 1).

    The same point as `LpBall.project`, by bisection, since here each example has a radius of its own.
    """
    size = delta.abs()
    threshold = size.amax(dim=1, keepdim=True)
    too_small = torch.zeros_like(threshold)
    for _ in range(30):
        middle = (too_small + threshold) / 2
        over = (size - middle).clamp_min_(0).minimum(room).sum(dim=1, keepdim=True) > eps
        too_small, threshold = torch.where(over, middle, too_small), torch.where(over, threshold, middle)
    return delta.sign() * (size - threshold).clamp_min_(0).minimum(room)
