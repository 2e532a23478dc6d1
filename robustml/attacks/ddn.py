"""DDN, decoupling direction and norm: gradient steps choose the direction, a radius that follows success the norm.

Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and defenses", CVPR
2019, arXiv:1811.09600. Deviations: images are not rounded to 8 bits on the way; an example with a zero gradient keeps
its direction instead of moving at random, so that nothing is random here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.attacks.engine.losses import Goal, cross_entropy
from robustml.attacks.engine.setup import require_counts
from robustml.deadline import keeping
from robustml.errors import RequestError
from robustml.threats import LpBall
from robustml.types import Threat


@dataclass(frozen=True)
class DDN:
    """The untargeted L2 attack, from the original.

    Args:
        steps: forward and input-gradient passes; the first looks at the original.
        first_eps: the radius at the first step, in the units of the images.
        eps_step: by which share the radius shrinks after a success and grows after a failure (gamma in the paper).

    Raises:
        RequestError: settings out of range; when called: a threat that is no L2 ball.
    """

    steps: int = 100
    first_eps: float = 1.0
    eps_step: float = 0.05

    gives_up: ClassVar[bool] = True
    """What it does not turn comes back as it was."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        require_counts(self, "steps")
        if not self.first_eps > 0:
            raise RequestError(f"DDN needs first_eps > 0, got {self.first_eps}")
        if not 0 < self.eps_step < 1:
            raise RequestError(f"DDN needs eps_step between 0 and 1, got {self.eps_step}")

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an L2 ball; its `eps` only decides what `__call__` gives back."""
        if not isinstance(threat, LpBall) or threat.p != 2.0:
            norm = getattr(threat, "norm", type(threat).__name__)
            raise RequestError(f"DDN is an L2 attack, the threat is L{norm}; use FMN for the other norms")
        return threat

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """What `smallest` finds for `x` (N, ...) with labels `y` (N,) where that lies in the threat, elsewhere `x`."""
        x_adv = self.smallest(model, x, y, threat, generator=generator)
        inside = threat.contains(x_adv, x)
        return torch.where(inside.view(-1, *[1] * (x.ndim - 1)), x_adv, x.detach())

    def smallest(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """The nearest adversarial example found for each of `x`, in the box but however far; `x` where none was."""
        ball = self.check_threat(threat)
        with crafting(model, x, y) as (x, y):
            goal, origin = Goal(y), x.flatten(1)
            low, high = ball.bounds
            x_adv, best = origin, origin
            best_norm = torch.full_like(origin[:, 0], torch.inf)
            eps = torch.full_like(best_norm, self.first_eps)
            for step in range(self.steps):
                with keeping(lambda best=best: best.view_as(x)):  # type: ignore[misc]
                    gradient, logits = input_gradient(
                        model, x_adv.view_as(x), lambda logits: cross_entropy(logits, goal)
                    )
                norm = ball.distance(x_adv, origin)
                reached = goal.reached(logits)
                better = reached & (norm < best_norm)
                best_norm = torch.where(better, norm, best_norm)
                best = torch.where(better.unsqueeze(1), x_adv, best)
                eps = eps * torch.where(reached, 1 - self.eps_step, 1 + self.eps_step)
                # From 1 to 0.01 along a cosine, as in the paper.
                step_size = 0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2
                delta = ball.ascend(x_adv, gradient.flatten(1), step_size) - origin
                length = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
                delta = delta * (eps.unsqueeze(1) / length.clamp_min(torch.finfo(length.dtype).tiny))
                x_adv = (origin + delta).clamp_(low, high)
            return best.view_as(x)
