"""FGSM-RS, "fast" adversarial training's attack: FGSM from a random start, with a step larger than the budget.

Wong, Rice, Kolter, "Fast is better than free", ICLR 2020, arXiv:2001.03994. As in the authors' MNIST code
(locuslab/fast_adversarial), the random start is not clipped to the image box before the gradient is taken; their CIFAR
code clips it. It matters: on MNIST, clipping it was seen to lower PGD-50 accuracy from .89 to .00.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from robustml.attacks.engine.climb import climb
from robustml.attacks.engine.gradient import crafting
from robustml.attacks.engine.losses import Goal, LossName
from robustml.attacks.engine.setup import step_length
from robustml.types import Threat


@dataclass(frozen=True)
class FGSMRS:
    """FGSM from a random start.

    Args:
        step_size: length of the one step, in the unit of eps; or
        relative_step_size: the same as a multiple of eps; 1.25 if neither is given.
        clip_start: clip the start to the image box before the gradient is taken.
        loss: what to climb: ``"ce"``, ``"margin"`` or ``"dlr"``.
    """

    step_size: float | None = None
    relative_step_size: float | None = None
    clip_start: bool = False
    loss: LossName = "ce"
    steps: ClassVar[int] = 1

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) with labels `y` (N,)."""
        step_size = step_length(threat.eps, self.step_size, self.relative_step_size, default=1.25)
        with crafting(model, x, y) as (x, y):
            start = threat.sample(x, generator, boxed=self.clip_start)
            return climb(model, x, Goal(y), start, threat=threat, loss=self.loss, steps=1, step_size=step_size)
