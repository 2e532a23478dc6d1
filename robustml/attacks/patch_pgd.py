"""PGD on the values of a patch, at several places.

Karmon, Zoran, Goldberg, "LaVAN", ICML 2018, arXiv:1801.02608 (a patch for one image, optimised at a fixed place); Rao,
Stutz, Schiele, "Adversarial training against location-optimized adversarial patches", 2020, arXiv:2005.02313 (signed
steps; the place matters). Deviation: places are not walked through neighbour by neighbour but drawn for each example
without repetition, each is climbed from a random patch, and the best iterate of all is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, input_gradient, logits_of
from robustml.attacks.engine.losses import Goal, LossName, attack_loss
from robustml.attacks.engine.setup import require_counts, required
from robustml.deadline import keeping
from robustml.draws import Draws
from robustml.errors import RequestError
from robustml.threats import Patch
from robustml.types import Threat


@dataclass(frozen=True)
class PatchPGD:
    """Projected gradient ascent inside a square, at the place where it works best.

    Args:
        steps: gradient steps at each place.
        step_size: length of a step as a share of the box; 2.5 / steps if None.
        locations: places to try for each example; None tries every one. On MNIST, many places and few steps were seen
            to fool far more images than few places and many steps.
        loss: what to climb: ``"ce"``, ``"margin"`` or ``"dlr"``.
        early_stop: examples that are fooled at one place try no other. For evaluation.

    Raises:
        RequestError: fewer than 1 step or place; a step that is not positive; when called: the threat is no patch.
    """

    steps: int = 10
    step_size: float | None = None
    locations: int | None = 50
    loss: LossName = "ce"
    early_stop: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        require_counts(self, "steps", "locations")
        if self.step_size is not None and not self.step_size > 0:
            raise RequestError(f"step_size must be > 0, got {self.step_size}")
        attack_loss(self.loss)

    def check_threat(self, threat: Threat) -> Patch:
        """The threat, if it is a patch: its size, and its place if that is fixed."""
        return required(Patch, threat, "a patch attack needs threat=patch")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, C, H, W) for `x` (N, C, H, W) with labels `y` (N,)."""
        patch = self.check_threat(threat)
        with crafting(model, x, y) as (x, y):
            corners = patch.corners(x)
            draws, goal = Draws.of(x, generator), Goal(y)
            order = draws.uniform(len(corners)).argsort(dim=1)[:, : self.locations]
            best = x.clone()
            best_score = torch.full((len(x),), -torch.inf, device=x.device)
            active = torch.arange(len(x), device=x.device)
            for place in order.T:
                square = patch.square(corners[place[active]], x[active])
                with keeping(lambda: best):
                    x_adv, score = self._climb(
                        model, x[active], goal.take(active), square, draws.take(active), patch.bounds
                    )
                better = score > best_score[active]
                best[active[better]], best_score[active[better]] = x_adv[better], score[better]
                if self.early_stop:
                    active = active[score < torch.inf]
                    if not len(active):
                        break
            return best

    def _climb(
        self, model: nn.Module, x: Tensor, goal: Goal, square: Tensor, draws: Draws, bounds: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """The best iterate in one `square` (N, 1, H, W) from a random patch, and its score (N,), infinite if fooled."""
        loss = attack_loss(self.loss)
        low, high = bounds
        step_size = (high - low) * (2.5 / self.steps if self.step_size is None else self.step_size)
        x_adv = torch.where(square, draws.uniform(*x.shape[1:]).to(x.dtype).mul_(high - low).add_(low), x)
        best, best_score = x_adv, torch.full((len(x),), -torch.inf, device=x.device)

        def keep(logits: Tensor) -> tuple[Tensor, Tensor]:
            score = loss(logits, goal).float().where(~goal.reached(logits), torch.inf)
            better = score > best_score
            return torch.where(better.view(-1, 1, 1, 1), x_adv, best), torch.where(better, score, best_score)

        for _ in range(self.steps):
            gradient, logits = input_gradient(model, x_adv, lambda logits: loss(logits, goal))
            best, best_score = keep(logits)
            x_adv = torch.where(square, (x_adv + step_size * gradient.sign()).clamp_(low, high), x)
        return keep(logits_of(model, x_adv))
