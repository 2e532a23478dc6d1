"""MI-FGSM: iterated FGSM along a decayed sum of normalised gradients.

Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, arXiv:1710.06081. Deviations: gradients are
divided by their mean absolute value instead of its sum (the same direction), and the threat sets the norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor, nn

from robustml.attacks.engine.climb import climb
from robustml.attacks.engine.gradient import crafting
from robustml.attacks.engine.losses import Goal, LossName
from robustml.attacks.engine.setup import require_counts, step_length
from robustml.types import Threat


@dataclass(frozen=True)
class MIFGSM:
    """The momentum iterative fast gradient sign method, from the original.

    Args:
        steps: gradient steps.
        step_size: length of a step, in the unit of eps; or
        relative_step_size: the same as a multiple of eps; 1 / steps if neither is given, as in the paper.
        decay: weight of the accumulated gradient (mu in the paper).
        loss: what to climb: ``"ce"``, ``"margin"`` or ``"dlr"``.
        early_stop: fooled examples leave the batch; for evaluation.
    """

    steps: int = 10
    step_size: float | None = None
    relative_step_size: float | None = None
    decay: float = 1.0
    loss: LossName = "ce"
    early_stop: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        require_counts(self, "steps")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) with labels `y` (N,); nothing is random here."""
        default = 1.0 / self.steps
        with crafting(model, x, y) as (x, y):
            return climb(
                model,
                x,
                Goal(y),
                x,
                threat=threat,
                loss=self.loss,
                steps=self.steps,
                step_size=step_length(threat.eps, self.step_size, self.relative_step_size, default=default),
                decay=self.decay,
                early_stop=self.early_stop,
            )
