"""FT-SAM: fine-tuning that looks for a flat minimum, so that weights leave the backdoor's surroundings.

Zhu, Wei, Shen, Fan and Wu, "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization" (ICCV
2023, arXiv:2304.11823): each step takes the gradient at the worst of the weights within ``||e / |w||| <= rho``, which
to first order is ``w + rho w^2 g / ||w g||``, since the neurons of a backdoor have large weights.

Deviations: fewer epochs and a smaller rho, for small networks and sets; the running statistics of batch norm are moved
by both passes of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.reading import require_classes, require_clean
from robustml.defenses.repair.tuning import Tuning, copied, drawing
from robustml.errors import RequestError
from robustml.types import Labelled


@dataclass(frozen=True)
class FTSAM(Tuning):
    """Sharpness-aware fine-tuning on the clean records. Further arguments are those of `Tuning`.

    Args:
        rho: how far the weights are moved before the gradient is taken, relative to their size; the paper's is 2 for a
            ResNet of 11 million weights.
    """

    rho: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rho > 0:
            raise RequestError(f"rho must be above 0 (0 is fine-tuning), got {self.rho}")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """The tuned copy; `records` are not looked at.

        Raises:
            RequestError: there are no clean records, or the model was trained on other classes.
        """
        clean = require_clean(clean, "FT-SAM", 2)
        require_classes(model, clean)
        with drawing(model, generator):
            found = copied(model)
            return self.fit(found, clean, optimizer=SharpnessAware(self.optimizing(found.parameters()), self.rho))


class SharpnessAware:
    """An optimizer's step with the gradient of the worst point nearby.

    Args:
        base: makes the step.
        rho: the radius, in units of each weight's size.
    """

    def __init__(self, base: torch.optim.Optimizer, rho: float) -> None:
        self.base, self.rho = base, rho
        self.param_groups = base.param_groups

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.base.zero_grad()

    def step(self, closure: Callable[[], float]) -> float:
        """Away from where the parameters are and back again, then one step of `base`."""
        loss = closure()
        found = [each for group in self.param_groups for each in group["params"] if each.grad is not None]
        with torch.no_grad():
            length = torch.stack([(each * each.grad).norm() for each in found]).norm().clamp_min(1e-12)
            moves: list[Tensor] = [self.rho * each.square() * each.grad / length for each in found]
            kept = [each.clone() for each in found]
            for each, move in zip(found, moves, strict=True):
                each += move
        closure()
        with torch.no_grad():
            for each, old in zip(found, kept, strict=True):
                each.copy_(old)
        self.base.step()
        return loss
