"""Sparse-RS: random search for a few pixels, from the model's scores alone.

Croce, Andriushchenko, Singh, Flammarion, Hein, "Sparse-RS: a versatile framework for query-efficient sparse black-box
adversarial attacks", AAAI 2022, arXiv:2006.12834; the L0 attack, with the paper's schedule. Deviation: a pixel that is
to be exchanged may also be drawn again, and then takes another colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.attacks.engine.losses import Goal, LossName, attack_loss
from robustml.attacks.engine.setup import required
from robustml.deadline import keeping
from robustml.draws import Draws
from robustml.errors import RequestError
from robustml.threats import SparseBall
from robustml.threats.sparse import by_pixel, where_pixel
from robustml.types import Threat

# From which of 10,000 queries on the share of exchanged pixels is alpha divided by what.
_SCHEDULE = ((0, 2), (50, 4), (200, 5), (500, 6), (1000, 8), (2000, 10), (4000, 12), (6000, 15), (8000, 20))


@dataclass(frozen=True)
class SparseRS:
    """Random search over which pixels to change, and to which corner of the colour cube.

    Every query exchanges some of the chosen pixels and keeps the exchange where it raised the loss. Fooled examples
    leave the batch.

    Args:
        queries: forward passes for each example at most.
        alpha: the share of the chosen pixels that a query exchanges, before the schedule shrinks it.
        loss: what to climb: ``"margin"``, ``"ce"`` or ``"dlr"``.

    Raises:
        RequestError: fewer than 1 query, or alpha is not in (0, 1]; when called: the threat counts no pixels.
    """

    queries: int = 1000
    alpha: float = 0.3
    loss: LossName = "margin"
    black_box: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        if self.queries < 1 or not 0 < self.alpha <= 1:
            raise RequestError(
                f"Sparse-RS needs queries >= 1 and alpha in (0, 1], got queries={self.queries}, alpha={self.alpha}"
            )
        attack_loss(self.loss)

    def check_threat(self, threat: Threat) -> SparseBall:
        """The threat, if it counts pixels."""
        return required(SparseBall, threat, "Sparse-RS needs threat=sparse, a number of pixels")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) with labels `y` (N,)."""
        ball, loss = self.check_threat(threat), attack_loss(self.loss)
        with crafting(model, x, y) as (x, y):
            result, n = x.clone(), len(x)
            _, channels, pixels = by_pixel(x).shape
            count = min(int(ball.eps), pixels)
            if count == 0 or n == 0:
                return result
            draws = Draws.of(x, generator)
            goal, active = Goal(y), torch.arange(n, device=x.device)
            chosen = torch.zeros(n, pixels, dtype=torch.bool, device=x.device)
            colours = x.clone()
            best = torch.full((n,), -torch.inf, device=x.device)
            for query in range(self.queries):
                numbers = draws.uniform(2 + channels, pixels)
                exchanged = count if query == 0 else self._exchanged(query, count)
                chosen_now, colours_now = _exchange(chosen, colours, numbers, exchanged, ball.bounds)
                x_adv = torch.where(where_pixel(chosen_now, x), colours_now, x)
                with keeping(lambda: result):
                    logits = logits_of(model, x_adv)
                score = loss(logits, goal).float()
                better = score > best
                chosen[better], colours[better], best[better] = chosen_now[better], colours_now[better], score[better]
                result[active[better]] = x_adv[better]
                reached = goal.reached(logits)
                if reached.any():
                    result[active[reached]] = x_adv[reached]
                    left = (~reached).nonzero().squeeze(1)
                    if not len(left):
                        break
                    draws, goal, active = draws.take(left), goal.take(left), active[left]
                    x, chosen, colours, best = x[left], chosen[left], colours[left], best[left]
            return result

    def _exchanged(self, query: int, count: int) -> int:
        """How many of `count` pixels to exchange at this query."""
        place = query * 10_000 // self.queries
        divisor = next(divisor for start, divisor in reversed(_SCHEDULE) if place >= start)
        return max(1, int(self.alpha / divisor * count))


def _exchange(
    chosen: Tensor, colours: Tensor, numbers: Tensor, exchanged: int, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Other pixels (N, P) in place of some of the `chosen`, and the colours (N, ...) with theirs drawn.

    Args:
        chosen: bool (N, P); at first none.
        colours: (N, ...), what the chosen pixels are set to.
        numbers: (N, 2 + C, P) uniform in [0, 1): who leaves, who comes, and in which colour.
        exchanged: how many leave, where there are any, and come.
        bounds: the corners of the colour cube.
    """
    kept = chosen & ~_leading(numbers[:, 0].masked_fill(~chosen, -1), exchanged)
    new = _leading(numbers[:, 1].masked_fill(kept, -1), exchanged)
    low, high = bounds
    corner = torch.where(numbers[:, 2:] < 0.5, low, high).to(colours.dtype).view_as(colours)
    return kept | new, torch.where(where_pixel(new, colours), corner, colours)


def _leading(score: Tensor, count: int) -> Tensor:
    """Where the `count` largest of each row are: bool (N, P)."""
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, score.topk(count, dim=1).indices, True)
