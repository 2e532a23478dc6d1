"""Auto-PGD: projected gradient ascent with momentum that halves its own step where progress stalls.

Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks"
(arXiv:2003.01690), Algorithm 1; for L1 the sparse steps and the shrinking radii of Croce & Hein 2021, "Mind the box"
(arXiv:2103.01208), section 4.

Deviations: fooled examples leave at once and keep the image that fooled the model; the first step's loss is compared
with that of the start (the reference implementation compares it with 0); with `eot` > 1 an example counts as fooled by
the mean of its logits; fewer than 4 classes have no targeted DLR loss, and are attacked on the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.ascent import Ascent, unit
from robustml.attacks.engine.attempts import first_success, targets_of
from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.attacks.engine.losses import Goal, LossName, attack_loss
from robustml.attacks.engine.setup import require_counts, required
from robustml.draws import Draws
from robustml.errors import RequestError
from robustml.threats import LpBall
from robustml.types import Threat


@dataclass(frozen=True)
class APGD:
    """Auto-PGD under an Lp threat.

    Args:
        steps: gradient steps an attempt.
        loss: what to climb: ``"ce"``, ``"dlr"`` or ``"margin"``.
        restarts: random starts an example (and target).
        targets: with a number, one attempt for each of so many likeliest wrong classes, on the targeted loss; the class
            reached need not be the target.
        eot: average the gradient over so many forward passes, for models with random outputs.
        shrink_radius: begin outside the ball, at 3 and 2 times eps, and end inside (L1 only; the paper's choice there).
        batch_size: most examples in one forward pass.

    Raises:
        RequestError: a count below 1 or an unknown loss; when called: the threat is no Lp ball, or `shrink_radius` with
            another norm than L1.
    """

    steps: int = 100
    loss: LossName = "ce"
    restarts: int = 1
    targets: int | None = None
    eot: int = 1
    shrink_radius: bool = False
    batch_size: int = 250

    gives_up: ClassVar[bool] = True
    """What it does not turn comes back as it was."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of an evaluation."""
        require_counts(self, "steps", "restarts", "eot", "batch_size", "targets")
        attack_loss(self.loss)

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an Lp ball, and one of L1 where the radius is to shrink."""
        ball = required(LpBall, threat, "APGD needs an Lp threat (inf, 2 or 1)")
        if self.shrink_radius and ball.p != 1:
            raise RequestError(f"shrink_radius is for L1 threats, the threat is L{ball.norm}")
        return ball

    def remarks(self, classes: int, threat: Threat) -> list[str]:
        """What this attack leaves out or does differently on a model with so few classes."""
        remarks = []
        if self.targets is not None and self.targets > classes - 1:
            remarks.append(f"{classes - 1} target classes instead of {self.targets}: the model has {classes} classes")
        if self._loss(classes) != self.loss:
            what = "DLR loss" if self.targets is None else "targeted DLR loss"
            remarks.append(f"the {what} is not defined for {classes} classes: the margin was climbed instead")
        return remarks

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) in [0, 1] with labels `y` (N,); `x` where none was found."""
        ball = self.check_threat(threat)
        with crafting(model, x, y) as (x, y):
            draws = Draws.of(x, generator)
            logits = torch.cat([logits_of(model, chunk) for chunk in torch.split(x, self.batch_size)])
            targets = None if self.targets is None else targets_of(logits, y, self.targets)
            loss = self._loss(logits.shape[1])
            attempts = self.restarts * (1 if targets is None else targets.shape[1])

            def attempt(index: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
                target = None if targets is None else targets[index, number // self.restarts]
                return self._attempt(model, loss, x[index], Goal(y[index], target), ball, draws.take(index))

            return first_success(attempt, x, attempts, batch_size=self.batch_size)

    def _loss(self, classes: int) -> LossName:
        enough = classes >= (3 if self.targets is None else 4)
        return self.loss if self.loss != "dlr" or enough else "margin"

    def _attempt(
        self, model: nn.Module, loss: str, x: Tensor, goal: Goal, ball: LpBall, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """One run from one random start: images (N, ...) and which of them fool the model (N,)."""
        if not self.shrink_radius:
            return Ascent(model, loss, ball, self.steps, self.eot).run(x, goal, _start(x, ball, draws))
        part = math.ceil(0.3 * self.steps)
        position = ball.at(3 * ball.eps).project(x + draws.normal(*x.shape[1:]), x)
        for factor in (3, 2):
            wide = ball.at(factor * ball.eps)
            ascent = Ascent(model, loss, wide, part, self.eot, leave=False, dense_start=False)
            position, _ = ascent.run(x, goal, wide.project(position, x))
        ascent = Ascent(model, loss, ball, max(1, self.steps - 2 * part), self.eot, dense_start=False)
        return ascent.run(x, goal, ball.project(position, x))


def _start(x: Tensor, ball: LpBall, draws: Draws) -> Tensor:
    uniform = ball.p == math.inf
    direction = 2 * draws.uniform(*x.shape[1:]) - 1 if uniform else draws.normal(*x.shape[1:])
    if ball.p == 1:
        return ball.project(x + direction, x)
    return (x + ball.eps * unit(direction, ball.p)).clamp_(*ball.bounds)
