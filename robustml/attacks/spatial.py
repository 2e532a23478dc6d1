"""The worst rotation and translation, by trying them.

Engstrom, Tran, Tsipras, Schmidt, Madry, "Exploring the landscape of spatial robustness", ICML 2019, arXiv:1712.02779:
the grid attack, which walks through the whole threat, and the worst of k random transforms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.attacks.engine.losses import Goal, LossName, attack_loss
from robustml.attacks.engine.setup import required
from robustml.deadline import keeping
from robustml.draws import Draws
from robustml.errors import RequestError
from robustml.threats import Spatial
from robustml.types import Threat


@dataclass(frozen=True)
class SpatialSearch:
    """The transform that fools the model, or else has the highest loss.

    Args:
        draws: how many to draw for each example (worst of k); None walks through all of them.
        loss: by which to choose: ``"ce"``, ``"margin"`` or ``"dlr"``.
        early_stop: fooled examples leave the batch. For evaluation.

    Raises:
        RequestError: fewer than 1 draws; when called: the threat is not spatial.
    """

    draws: int | None = None
    loss: LossName = "ce"
    early_stop: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        if self.draws is not None and self.draws < 1:
            raise RequestError(f"draws must be at least 1, or null for all transforms; got {self.draws}")
        attack_loss(self.loss)

    def check_threat(self, threat: Threat) -> Spatial:
        """The threat, if it is one of rotations and translations."""
        return required(Spatial, threat, "a search for rotations needs threat=spatial")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, C, H, W) for `x` (N, C, H, W) with labels `y` (N,)."""
        spatial, loss, goal = self.check_threat(threat), attack_loss(self.loss), Goal(y)
        with crafting(model, x, y) as (x, y):
            best = x.clone()
            best_score = torch.full((len(x),), -torch.inf, device=x.device)
            active = torch.arange(len(x), device=x.device)
            for transform in self._plan(x, spatial, generator):
                # One for all of the batch, or one for each example.
                candidate = spatial.render(x[active], transform if len(transform) == 1 else transform[active])
                with keeping(lambda: best):
                    logits = logits_of(model, candidate)
                reached = goal.take(active).reached(logits)
                score = loss(logits, goal.take(active)).float().where(~reached, torch.inf)
                better = score > best_score[active]
                best[active[better]], best_score[active[better]] = candidate[better], score[better]
                if self.early_stop:
                    active = active[~reached]
                    if not len(active):
                        break
            return best

    def _plan(self, x: Tensor, threat: Spatial, generator: Generator | None) -> Tensor:
        """The transforms to try one after the other: (T, 1, 3) for all of the batch, or (k, N, 3)."""
        transforms, _ = threat.transforms()
        if self.draws is None:
            # The largest fool most images, which need not be rotated again.
            return transforms.flip(0).unsqueeze(1)
        chosen = (Draws.of(x, generator).uniform(self.draws) * len(transforms)).long().cpu()
        return transforms[chosen.T].to(x.device)
