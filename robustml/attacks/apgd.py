"""Auto-PGD: projected gradient ascent with momentum that halves its own step where progress stalls.

Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks"
(arXiv:2003.01690), Algorithm 1; for L1 the sparse steps and the shrinking radii of Croce & Hein 2021, "Mind the box"
(arXiv:2103.01208), section 4.

Deviations: fooled examples leave at once and keep the image that fooled the model; the first step's loss is compared
with that of the start (the reference implementation compares it with 0); with `eot` > 1 an example counts as fooled by
the mean of its logits; fewer than 4 classes have no targeted DLR loss, and are attacked on the margin.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.attempts import first_success, targets_of
from robustml.attacks.engine.gradient import crafting, input_gradient, logits_of
from robustml.attacks.engine.losses import Goal, LossName, attack_loss
from robustml.attacks.engine.setup import require_counts, required
from robustml.draws import Draws
from robustml.errors import RequestError
from robustml.threats import LpBall
from robustml.types import Threat

__all__ = ["APGD"]


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
            return _Ascent(self, model, loss, ball, self.steps).run(x, goal, _start(x, ball, draws))
        part = math.ceil(0.3 * self.steps)
        position = ball.at(3 * ball.eps).project(x + draws.normal(*x.shape[1:]), x)
        for factor in (3, 2):
            wide = ball.at(factor * ball.eps)
            ascent = _Ascent(self, model, loss, wide, part, leave=False, dense_start=False)
            position, _ = ascent.run(x, goal, wide.project(position, x))
        ascent = _Ascent(self, model, loss, ball, max(1, self.steps - 2 * part), dense_start=False)
        return ascent.run(x, goal, ball.project(position, x))


@dataclass
class _State:
    """Everything an example carries along; (N, ...) or (N,) each."""

    row: Tensor
    x: Tensor
    goal: Goal
    position: Tensor
    previous: Tensor
    gradient: Tensor
    value: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    step_size: Tensor
    increases: Tensor
    checked_value: Tensor
    was_halved: Tensor
    density: Tensor

    def take(self, index: Tensor) -> _State:
        """The state of the examples at `index`."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "goal"]
        return _State(goal=self.goal.take(index), **{name: getattr(self, name)[index] for name in names})


@dataclass(frozen=True)
class _Ascent:
    """One run of the algorithm inside one ball."""

    attack: APGD
    model: nn.Module
    loss: str
    ball: LpBall
    steps: int
    leave: bool = True
    dense_start: bool = True

    def run(self, x: Tensor, goal: Goal, start: Tensor) -> tuple[Tensor, Tensor]:
        """Climb from `start`: images (N, ...) and whether they fool (N,); without `leave`, those of highest loss."""
        result, fooled = start.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        state, fools = self._begin(x, goal, start)
        window = self._first_window()
        since_check = 0
        for step in range(self.steps + 1):
            if self.leave and fools.any():
                rows = state.row[fools]
                result[rows], fooled[rows] = state.position[fools], True
                state = state.take((~fools).nonzero().squeeze(1))
            if step == self.steps or not len(state.row):
                break
            self._move(state, momentum=step > 0)
            fools = self._look(state, last=step == self.steps - 1)
            since_check += 1
            if since_check == window:
                self._check(state, window)
                since_check = 0
                window = self._next_window(window)
        if not self.leave:
            result[state.row] = state.best
        return result, fooled

    def _begin(self, x: Tensor, goal: Goal, start: Tensor) -> tuple[_State, Tensor]:
        gradient, value, fools = self._gradient(start, goal)
        ones = torch.ones(len(x), *[1] * (x.ndim - 1), device=x.device)
        changed = _changed(start, x)
        density = torch.full_like(value, 0.2) if self.dense_start else changed / x[0].numel() / 1.5
        state = _State(
            row=torch.arange(len(x), device=x.device),
            x=x,
            goal=goal,
            position=start,
            previous=start,
            gradient=gradient,
            value=value,
            best=start.clone(),
            best_gradient=gradient.clone(),
            best_value=value.clone(),
            step_size=ones * self.ball.eps * (1 if self.ball.p == 1 else 2),
            increases=torch.zeros_like(value),
            # L1 compares supports at its checkpoints, the other norms losses.
            checked_value=(torch.full_like(value, x[0].numel()) if self.dense_start else changed)
            if self.ball.p == 1
            else value.clone(),
            was_halved=torch.ones_like(fools),
            density=density,
        )
        return state, fools

    def _gradient(self, position: Tensor, goal: Goal) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient (N, ...), the loss (N,) and which examples fool the model (N,), averaged over `eot` passes."""
        loss = attack_loss(self.loss)
        gradients, logits = input_gradient(self.model, position, lambda scores: loss(scores, goal))
        for _ in range(self.attack.eot - 1):
            another, more = input_gradient(self.model, position, lambda scores: loss(scores, goal))
            gradients, logits = gradients + another, logits + more
        logits = logits / self.attack.eot
        return gradients / self.attack.eot, loss(logits, goal), logits.argmax(dim=1) != goal.y

    def _move(self, state: _State, *, momentum: bool) -> None:
        """One step uphill and, after the first, a quarter of the last movement on top."""
        position, previous = state.position, state.previous
        state.previous = position
        if self.ball.p == 1:
            state.position = self.ball.project(position + state.step_size * self._sparse_direction(state), state.x)
            return
        direction = state.gradient.sign() if self.ball.p == math.inf else _unit(state.gradient, 2)
        stepped = self._inside(torch.addcmul(position, state.step_size, direction), state.x)
        if momentum:
            stepped = torch.lerp(position, stepped, 0.75).add_(position - previous, alpha=0.25)
            stepped = self._inside(stepped, state.x)
        state.position = stepped

    def _inside(self, position: Tensor, x: Tensor) -> Tensor:
        if self.ball.p == math.inf:
            return self.ball.project(position, x)
        # As in the paper: onto the sphere, then into the box, which cannot leave the ball since x is in the box.
        delta = position - x
        size = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-12)
        scale = (self.ball.eps / size).clamp_max(1).view(-1, *[1] * (x.ndim - 1))
        return torch.addcmul(x, delta, scale).clamp_(*self.ball.bounds)

    def _sparse_direction(self, state: _State) -> Tensor:
        """The signs of each example's largest gradients, of L1 norm 1."""
        size = state.gradient.flatten(1).abs()
        total = size.shape[1]
        skipped = ((1 - state.density) * total).long().clamp(0, total - 1)
        threshold = size.sort(dim=1).values.gather(1, skipped.unsqueeze(1))
        signs = torch.where(size >= threshold, state.gradient.flatten(1).sign(), 0)
        return (signs / signs.abs().sum(dim=1, keepdim=True).clamp_min(1e-10)).view_as(state.gradient)

    def _look(self, state: _State, *, last: bool) -> Tensor:
        """Evaluate the new position and remember the best; which examples fool the model (N,)."""
        if last and self.leave:
            # Nobody needs another gradient, nor the loss.
            logits = logits_of(self.model, state.position)
            for _ in range(self.attack.eot - 1):
                logits = logits + logits_of(self.model, state.position)
            return logits.argmax(dim=1) != state.goal.y
        before = state.value
        state.gradient, state.value, fools = self._gradient(state.position, state.goal)
        state.increases = state.increases + (state.value > before)
        better = (state.value > state.best_value).nonzero().squeeze(1)
        for best, found in (
            (state.best_value, state.value),
            (state.best, state.position),
            (state.best_gradient, state.gradient),
        ):
            best[better] = found[better]
        return fools

    def _check(self, state: _State, window: int) -> None:
        """Halve the step of examples that stall, and send them back to their best position."""
        if self.ball.p == 1:
            self._check_support(state)
            return
        stalled = state.increases <= 0.75 * window
        stalled |= ~state.was_halved & (state.checked_value >= state.best_value)
        state.was_halved, state.checked_value = stalled, state.best_value.clone()
        state.increases = torch.zeros_like(state.increases)
        wide = stalled.view(-1, *[1] * (state.x.ndim - 1))
        state.step_size = torch.where(wide, state.step_size / 2, state.step_size)
        self._return_to_best(state, wide)

    def _check_support(self, state: _State) -> None:
        """L1: follow the support of the best perturbation; while it shrinks, start again with long steps."""
        support = _changed(state.best, state.x)
        shrinks = (support / state.checked_value < 0.95).view(-1, *[1] * (state.x.ndim - 1))
        state.checked_value = support
        state.density = support / state.x[0].numel() / 1.5
        longest = self.ball.eps
        state.step_size = torch.where(shrinks, longest, (state.step_size / 1.5).clamp_min(longest / 10))
        self._return_to_best(state, shrinks)

    def _return_to_best(self, state: _State, which: Tensor) -> None:
        state.position = torch.where(which, state.best, state.position)
        state.gradient = torch.where(which, state.best_gradient, state.gradient)

    def _first_window(self) -> int:
        return max(int((0.04 if self.ball.p == 1 else 0.22) * self.steps), 1)

    def _next_window(self, window: int) -> int:
        if self.ball.p == 1:
            return window
        return max(window - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1))


def _start(x: Tensor, ball: LpBall, draws: Draws) -> Tensor:
    uniform = ball.p == math.inf
    direction = 2 * draws.uniform(*x.shape[1:]) - 1 if uniform else draws.normal(*x.shape[1:])
    if ball.p == 1:
        return ball.project(x + direction, x)
    return (x + ball.eps * _unit(direction, ball.p)).clamp_(*ball.bounds)


def _unit(direction: Tensor, p: float) -> Tensor:
    """Each example of `direction` (N, ...) at Lp norm 1."""
    norm = torch.linalg.vector_norm(direction.flatten(1), ord=p, dim=1) + 1e-12
    return torch.div(direction, norm.view(-1, *[1] * (direction.ndim - 1)))


def _changed(position: Tensor, x: Tensor) -> Tensor:
    """How many values of each example were changed: (N,), as a float."""
    return (position != x).flatten(1).sum(dim=1).float()
