"""PGD: projected gradient ascent from random starts; BIM without them.

Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, arXiv:1706.06083; Kurakin et
al., "Adversarial examples in the physical world", 2017, arXiv:1607.02533 (BIM: `random_start=False`). Deviations: any
norm of the threat, three losses, and in evaluation (`early_stop=True`) an example that is fooled leaves the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.climb import climb
from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.attacks.engine.losses import Goal, LossName, attack_loss
from robustml.attacks.engine.setup import Target, choose_target, noisy_start, require_counts, step_length
from robustml.deadline import keeping
from robustml.errors import RequestError
from robustml.types import Threat


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent on the negative loss, from one or several starts.

    Args:
        steps: gradient steps per start.
        step_size: length of a step, in the unit of eps; or
        relative_step_size: the same as a multiple of eps. 2.5 / steps if neither is given, as Madry et al. advise.
        restarts: number of starts. Each example keeps the start that fooled the model, or else had the highest loss.
        random_start: start uniformly inside the threat; at the original otherwise.
        clip_start: clip random starts to the image box before the first gradient. On MNIST, where most pixels are 0,
            that pushes every start to one side, and training with few steps was seen to lose its robustness.
        start_noise: with a number, random starts are the original and Gaussian noise of that standard deviation, as in
            MART (0.001), instead of uniform; projected if `clip_start`.
        loss: what to climb: ``"ce"``, ``"margin"`` or ``"dlr"``.
        target: None to be taken for any wrong class; a class index, ``"least_likely"``, ``"runner_up"`` or
            ``"random"`` to be taken for that one. Examples whose label is the target are left as they are.
        early_stop: fooled examples keep the iterate that fooled the model and leave the batch. For evaluation: in
            training it would weaken the attack on purpose.

    Raises:
        RequestError: fewer than 1 step or restart, both kinds of step size, or noise at a start that is not random.
    """

    steps: int = 10
    step_size: float | None = None
    relative_step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    clip_start: bool = True
    start_noise: float | None = None
    loss: LossName = "ce"
    target: Target = None
    early_stop: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        require_counts(self, "steps", "restarts")
        if self.start_noise is not None and not (self.start_noise > 0 and self.random_start):
            raise RequestError(
                f"PGD's start_noise must be > 0 and needs random_start=true, got start_noise={self.start_noise} and "
                f"random_start={self.random_start}"
            )
        attack_loss(self.loss)
        step_length(1.0, self.step_size, self.relative_step_size, default=1.0)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) with labels `y` (N,)."""
        with crafting(model, x, y) as (x, y):
            goal = Goal(y, choose_target(self.target, model, x, y, generator))
            if self.restarts == 1:
                x_adv = self._climb(model, x, goal, self._start(x, threat, generator), threat)
            else:
                x_adv = self._best_of_restarts(model, x, goal, threat, generator)
            if goal.target is None:
                return x_adv
            return torch.where((goal.target == y).view(-1, *[1] * (x.ndim - 1)), x, x_adv)

    def _start(self, x: Tensor, threat: Threat, generator: Generator | None) -> Tensor:
        if not self.random_start:
            return x
        if self.start_noise is None:
            return threat.sample(x, generator, boxed=self.clip_start)
        start = noisy_start(x, self.start_noise, generator)
        return threat.project(start, x) if self.clip_start else start

    def _climb(self, model: nn.Module, x: Tensor, goal: Goal, start: Tensor, threat: Threat) -> Tensor:
        return climb(
            model,
            x,
            goal,
            start,
            threat=threat,
            loss=self.loss,
            steps=self.steps,
            step_size=step_length(threat.eps, self.step_size, self.relative_step_size, default=2.5 / self.steps),
            early_stop=self.early_stop,
        )

    def _best_of_restarts(
        self, model: nn.Module, x: Tensor, goal: Goal, threat: Threat, generator: Generator | None
    ) -> Tensor:
        best = x.clone()
        best_score = torch.full((len(x),), -torch.inf, device=x.device)
        active = torch.arange(len(x), device=x.device)
        for _ in range(self.restarts):
            # Drawn for the whole batch, so that the start of an example does not depend on who has left.
            start = self._start(x, threat, generator)[active]
            # One that has been fooled already keeps what fooled it; without `early_stop` nobody knows who has.
            with keeping(lambda: best, active if self.early_stop else None):
                x_adv = self._climb(model, x[active], goal.take(active), start, threat)
                reached, score = self._judge(model, x_adv, goal.take(active))
            better = score > best_score[active]
            best[active[better]], best_score[active[better]] = x_adv[better], score[better]
            if self.early_stop:
                active = active[~reached]
                if not len(active):
                    break
        return best

    def _judge(self, model: nn.Module, x_adv: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
        """Whether each example reached its goal, and a score by which one that did beats all that did not."""
        with torch.no_grad():
            logits = logits_of(model, x_adv)
            score = attack_loss(self.loss)(logits, goal).float()
        reached = goal.reached(logits)
        return reached, score.where(~reached, torch.inf)
