"""FAB: the fast adaptive boundary attack, which looks for the smallest perturbation that changes the decision.

Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack" (arXiv:1907.02044),
Algorithm 1, with the paper's alpha_max = 0.1, eta = 1.05, beta = 0.9; the targeted version looks at one boundary, that
between the label and the target, instead of the nearest of all.

Deviations: in L-infinity and L1 the boundary is linearised where the last step ended, not after the step back from
there, so that one pass both judges a position and gives the next plane (the paper, and L2 here, needs two): on MNIST
this finds as much in L-infinity and more in L1, but less in L2; no final search along the line to the original
(the reference implementation has none either); asked for an image inside a threat, an example leaves as soon as one was
found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.attempts import first_success, targets_of
from robustml.attacks.engine.gradient import crafting, input_gradient, logits_of
from robustml.attacks.engine.hyperplane import step_onto_hyperplane
from robustml.attacks.engine.losses import Goal
from robustml.attacks.engine.setup import require_counts, required
from robustml.draws import Draws
from robustml.threats import LpBall
from robustml.types import Threat

_ALPHA_MAX, _ETA, _BETA = 0.1, 1.05, 0.9
_CACHED_VALUES = 2**15


@dataclass(frozen=True)
class FAB:
    """The fast adaptive boundary attack.

    Args:
        steps: linearisations an attempt.
        restarts: the first attempt starts at the image, the others at random within eps / 2.
        targets: with a number, one attempt for each of so many likeliest wrong classes (FAB-T, one gradient a step);
            with None the nearest boundary of all is taken (one gradient a class and step).
        batch_size: most examples in one forward pass.

    Raises:
        RequestError: a count below 1; when called: the threat is no Lp ball.
    """

    steps: int = 100
    restarts: int = 1
    targets: int | None = 9
    batch_size: int = 250

    gives_up: ClassVar[bool] = True
    """What it does not turn comes back as it was."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of an evaluation."""
        require_counts(self, "steps", "restarts", "batch_size", "targets")

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an Lp ball: norm, box, and the radius inside which an image counts as found."""
        return required(LpBall, threat, "FAB needs an Lp threat (inf, 2 or 1)")

    def remarks(self, classes: int, threat: Threat) -> list[str]:
        """What this attack leaves out on a model with so few classes."""
        if self.targets is None or self.targets <= classes - 1:
            return []
        return [f"{classes - 1} target classes instead of {self.targets}: the model has {classes} classes"]

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) inside the threat for `x` (N, ...); `x` itself where none was found."""
        ball = self.check_threat(threat)
        with crafting(model, x, y) as (x, y):
            run, attempts = self._attempts(model, x, y, ball, generator)

            def attempt(index: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
                found, distance = run(index, number, ball.eps)
                return found, distance <= ball.eps

            return first_success(attempt, x, attempts, batch_size=self.batch_size)

    def smallest(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """The nearest adversarial example found for each of `x` (N, ...), at any distance; `x` where none was."""
        ball = self.check_threat(threat)
        with crafting(model, x, y) as (x, y):
            run, attempts = self._attempts(model, x, y, ball, generator)
            best, best_distance = x.clone(), torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
            for number in range(attempts):
                for index in torch.split(torch.arange(len(x), device=x.device), self.batch_size):
                    found, distance = run(index, torch.full_like(index, number), None)
                    nearer = distance < best_distance[index]
                    best[index[nearer]], best_distance[index[nearer]] = found[nearer], distance[nearer]
            return best

    def _attempts(
        self, model: nn.Module, x: Tensor, y: Tensor, ball: LpBall, generator: Generator | None
    ) -> tuple[Callable[[Tensor, Tensor, float | None], tuple[Tensor, Tensor]], int]:
        draws = Draws.of(x, generator)
        logits = torch.cat([logits_of(model, chunk) for chunk in torch.split(x, self.batch_size)])
        targets = None if self.targets is None else targets_of(logits, y, self.targets)

        def run(index: Tensor, number: Tensor, enough: float | None) -> tuple[Tensor, Tensor]:
            target = None if targets is None else targets[index, number // self.restarts]
            start = _start(x[index], number % self.restarts > 0, ball, draws.take(index))
            return self._search(model, x[index], Goal(y[index], target), start, ball, enough)

        return run, self.restarts * (1 if targets is None else targets.shape[1])

    def _search(
        self, model: nn.Module, x: Tensor, goal: Goal, start: Tensor, ball: LpBall, enough: float | None
    ) -> tuple[Tensor, Tensor]:
        """One run: the nearest adversarial image found (N, ...) and its distance (N,), infinite where there is none.

        An example with one within `enough` leaves.
        """
        best, best_distance = x.clone(), torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
        row, position = torch.arange(len(x), device=x.device), start
        twice = ball.p == 2  # see the deviations
        for step in range(self.steps + 1):
            plane = None if twice or step == self.steps else _linearise(model, position, goal, ball.p)
            adversarial = logits_of(model, position).argmax(dim=1) != goal.y if plane is None else plane[2]
            distance = ball.distance(position, x).where(adversarial, torch.inf)
            nearer = distance < best_distance[row]
            best[row[nearer]], best_distance[row[nearer]] = position[nearer], distance[nearer]
            if step == self.steps:
                break
            if enough is not None and (distance <= enough).any():
                kept = (distance > enough).nonzero().squeeze(1)
                row, position, x, goal = row[kept], position[kept], x[kept], goal.take(kept)
                adversarial = adversarial[kept]
                plane = None if plane is None else (plane[0][kept], plane[1][kept], adversarial)
                if not len(kept):
                    break
            share = torch.where(adversarial, _BETA, 1.0).to(x)
            if plane is None:
                position = torch.lerp(x, position, _spread(share, x))
                plane, share = _linearise(model, position, goal, ball.p), torch.ones_like(share)
            position = _move(position, x, plane[0], plane[1], share, ball)
        return best, best_distance


def _start(x: Tensor, at_random: Tensor, ball: LpBall, draws: Draws) -> Tensor:
    if not at_random.any():
        return x
    uniform = ball.p == math.inf
    direction = 2 * draws.uniform(*x.shape[1:]) - 1 if uniform else draws.normal(*x.shape[1:])
    unit = direction / _spread(torch.linalg.vector_norm(direction.flatten(1), ord=ball.p, dim=1), x)
    start = (x + 0.5 * ball.eps * unit).clamp_(*ball.bounds)
    return torch.where(_spread(at_random, x), start, x)


def _linearise(model: nn.Module, position: Tensor, goal: Goal, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """How far the logit of the other class leads (N,), the gradient of that lead (N, ...), and whether it fools."""
    if goal.target is not None:
        target = goal.target

        def lead(logits: Tensor) -> Tensor:
            return _pick(logits, target) - _pick(logits, goal.y)

        slope, logits = input_gradient(model, position, lead)
        return lead(logits), slope, logits.argmax(dim=1) != goal.y
    return _nearest_boundary(model, position, goal.y, p)


def _nearest_boundary(model: nn.Module, position: Tensor, y: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same for whichever other class has the nearest boundary to first order."""
    with torch.enable_grad():
        leaf = position.detach().requires_grad_()
        logits = logits_of(model, leaf)
        leads = logits - _pick(logits, y).unsqueeze(1)
        columns = range(logits.shape[1])
        slopes = torch.stack(
            [torch.autograd.grad(leads[:, k].sum(), leaf, retain_graph=True)[0] for k in columns], dim=1
        )
    dual = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}[p]
    steepness = torch.linalg.vector_norm(slopes.flatten(2), ord=dual, dim=2)
    distance = (leads.detach().abs() / (steepness + 1e-12)).scatter(1, y.unsqueeze(1), torch.inf)
    nearest = distance.argmin(dim=1)
    slope = slopes[torch.arange(len(y), device=y.device), nearest]
    return _pick(leads.detach(), nearest), slope, logits.detach().argmax(dim=1) != y


def _move(position: Tensor, x: Tensor, gap: Tensor, slope: Tensor, share: Tensor, ball: LpBall) -> Tensor:
    """Back towards the original, as far as `share` (N,) of the way is left, then over the linearised boundary."""
    values = (position.flatten(1), x.flatten(1), slope.flatten(1), gap, share)
    # In chunks that stay in a core's cache: the work is many light passes over the same rows.
    rows = max(1, _CACHED_VALUES // values[0].shape[1]) if x.device.type == "cpu" else len(x)
    chunks = zip(*(torch.split(value, rows) for value in values), strict=True)
    return torch.cat([_step(ball, *chunk) for chunk in chunks]).view_as(x)


def _step(ball: LpBall, position: Tensor, x: Tensor, slope: Tensor, gap: Tensor, share: Tensor) -> Tensor:
    """Over the boundary from what is left of the way, `share`, and from the original, and between the two."""
    offset = torch.linalg.vecdot(slope, position) - gap
    ends = torch.stack([torch.lerp(x, position, share.unsqueeze(1)), x])
    steps = step_onto_hyperplane(ends, slope, offset, ball.p, ball.bounds)
    infinite = ball.p == math.inf  # on a CPU ten times as fast as the library's maximum norm
    lengths = steps.abs().amax(dim=2) if infinite else torch.linalg.vector_norm(steps, ord=ball.p, dim=2)
    from_here, from_origin = lengths.clamp_min(1e-8)
    pull = (from_here / (from_here + from_origin)).clamp_max(_ALPHA_MAX).unsqueeze(1)
    here, origin = torch.add(ends, steps, alpha=_ETA)
    return torch.lerp(here, origin, pull).clamp_(*ball.bounds)


def _pick(scores: Tensor, column: Tensor) -> Tensor:
    return scores.gather(1, column.unsqueeze(1)).squeeze(1)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """`values` (N,) shaped so that they broadcast over `like` (N, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))
