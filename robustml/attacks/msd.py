"""MSD: one attack in whose every step each example moves along the norm that raises its loss most.

Maini, Wong and Kolter, "Adversarial Robustness Against the Union of Multiple Perturbation Models", ICML 2020,
arXiv:1909.04068, algorithm 1 (multi steepest descent). Deviations: the projections are exact onto ball and box (the
authors project on one after the other), the step of the L1 ball is that of `LpBall.ascend` (theirs spreads over a
random number of pixels), and the last iterate is returned, as PGD does, from the original as the only start (their code
keeps the best iterate, on MNIST of two starts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, input_gradient, logits_of
from robustml.attacks.engine.losses import Goal, LossName, attack_loss
from robustml.attacks.engine.setup import require_counts, required
from robustml.errors import RequestError
from robustml.threats import Union
from robustml.types import Threat


@dataclass(frozen=True)
class MSD:
    """Multi steepest descent in a union of balls. A step costs an input gradient and a forward pass for each ball.

    Args:
        steps: gradient steps.
        step_sizes: length of a step in each ball, in the unit of its own radius; 2.5 / steps of the radius if None.
        loss: what to climb: ``"ce"``, ``"margin"`` or ``"dlr"``.

    Raises:
        RequestError: fewer than 1 step; when called: another threat, or step sizes that are not one for each ball.
    """

    steps: int = 10
    step_sizes: Sequence[float] | None = None
    loss: LossName = "ce"

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        require_counts(self, "steps")
        attack_loss(self.loss)
        if self.step_sizes is not None:
            object.__setattr__(self, "step_sizes", tuple(self.step_sizes))

    def check_threat(self, threat: Threat) -> Union:
        """The threat, if it is a union of as many balls as there are step sizes."""
        union = required(Union, threat, "MSD attacks a union of balls: for one norm choose attack=pgd")
        sizes, count = self.step_sizes, len(union.threats)
        if sizes is not None and (len(sizes) != count or not all(size > 0 for size in sizes)):
            raise RequestError(f"MSD needs step_sizes > 0, one for each of {count} balls; got {sizes}")
        return union

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) with labels `y` (N,); nothing is drawn."""
        balls = self.check_threat(threat).balls
        sizes = self.step_sizes or [2.5 / self.steps * ball.eps for ball in balls]
        climbed = attack_loss(self.loss)
        with crafting(model, x, y) as (x, y):
            goal = Goal(y)
            row = torch.arange(len(x), device=x.device)
            x_adv = x
            for _ in range(self.steps):
                gradient, _ = input_gradient(model, x_adv, lambda logits: climbed(logits, goal))
                candidates = torch.stack(
                    [
                        ball.project(ball.ascend(x_adv, gradient, size), x)
                        for ball, size in zip(balls, sizes, strict=True)
                    ]
                )
                losses = torch.stack([climbed(logits_of(model, candidate), goal) for candidate in candidates])
                x_adv = candidates[losses.argmax(0), row]
            return x_adv
