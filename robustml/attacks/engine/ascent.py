"""The loop of Auto-PGD (see `robustml.attacks.apgd`): momentum, and a step that is halved where progress stalls."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import input_gradient, logits_of
from robustml.attacks.engine.losses import Goal, attack_loss
from robustml.threats import LpBall


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
class Ascent:
    """One run of the algorithm inside one ball.

    Args:
        model: attacked, in the mode it is in.
        loss: a name of `robustml.attacks.engine.losses`.
        ball: norm, radius and box.
        steps: gradient steps.
        eot: average the gradient over so many forward passes.
        leave: whether fooled examples leave at once.
        dense_start: L1: whether the first steps move a fifth of all values.
    """

    model: nn.Module
    loss: str
    ball: LpBall
    steps: int
    eot: int = 1
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
        for _ in range(self.eot - 1):
            another, more = input_gradient(self.model, position, lambda scores: loss(scores, goal))
            gradients, logits = gradients + another, logits + more
        logits = logits / self.eot
        return gradients / self.eot, loss(logits, goal), logits.argmax(dim=1) != goal.y

    def _move(self, state: _State, *, momentum: bool) -> None:
        """One step uphill and, after the first, a quarter of the last movement on top."""
        position, previous = state.position, state.previous
        state.previous = position
        if self.ball.p == 1:
            state.position = self.ball.project(position + state.step_size * self._sparse_direction(state), state.x)
            return
        direction = state.gradient.sign() if self.ball.p == math.inf else unit(state.gradient, 2)
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
            for _ in range(self.eot - 1):
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


def unit(direction: Tensor, p: float) -> Tensor:
    """Each example of `direction` (N, ...) at Lp norm 1."""
    norm = torch.linalg.vector_norm(direction.flatten(1), ord=p, dim=1) + 1e-12
    return torch.div(direction, norm.view(-1, *[1] * (direction.ndim - 1)))


def _changed(position: Tensor, x: Tensor) -> Tensor:
    """How many values of each example were changed: (N,), as a float."""
    return (position != x).flatten(1).sum(dim=1).float()
