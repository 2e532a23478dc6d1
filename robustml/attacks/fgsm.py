"""FGSM: one step of the whole budget along the sign of the gradient.

Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, arXiv:1412.6572. For p = 2 and
1 the step follows the steepest direction of that norm (Miyato et al. 2016 call the first one FGM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from robustml.attacks.engine.climb import climb
from robustml.attacks.engine.gradient import crafting
from robustml.attacks.engine.losses import Goal, LossName
from robustml.types import Threat


@dataclass(frozen=True)
class FGSM:
    """The fast gradient sign method.

    Args:
        loss: what to climb: ``"ce"``, ``"margin"`` or ``"dlr"``.
    """

    loss: LossName = "ce"
    steps: ClassVar[int] = 1

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) with labels `y` (N,); nothing is random here."""
        with crafting(model, x, y) as (x, y):
            return climb(model, x, Goal(y), x, threat=threat, loss=self.loss, steps=1, step_size=threat.eps)
