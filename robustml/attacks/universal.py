"""Universal perturbations: one change that is added to every image.

Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein, "Universal adversarial training", AAAI 2020, arXiv:1811.11304: signed
stochastic gradient ascent on the cross-entropy, capped so that no single image is worth more than another. Deviations:
any Lp norm; images are clipped to the box before the model sees them, and the gradient passes that clipping unchanged
(a perturbation that points out of the box of one image may still move another).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.attacks.engine.losses import Goal, cross_entropy
from robustml.attacks.engine.setup import require_counts, required, step_length
from robustml.errors import RequestError
from robustml.threats import LpBall
from robustml.types import Threat


def craft_universal(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    threat: LpBall,
    *,
    epochs: int = 1,
    step_size: float | None = None,
    relative_step_size: float | None = None,
    cap: float = 9.0,
) -> Tensor:
    """One perturbation (1, ...) inside the ball, crafted on many images; give it to `FixedPerturbation`.

    Args:
        model: differentiated with respect to its input, in the mode it is in.
        batches: images (N, ...) in the box and labels (N,), walked through once an epoch: training images, unless
            the attacker is to know the images under attack.
        threat: the ball of the perturbation, and the box of the images.
        epochs: passes over the batches; one step is made on each batch.
        step_size: length of a step, in the unit of eps; or
        relative_step_size: the same as a multiple of eps; 0.1 if neither is given.
        cap: images whose loss exceeds it push no further (beta in the paper).

    Raises:
        RequestError: there are no batches, or the settings are out of range.
    """
    if epochs < 1:
        raise RequestError(f"a universal perturbation needs epochs >= 1, got {epochs}")
    _check_cap(cap)
    _ball_of(threat)
    step_size = step_length(threat.eps, step_size, relative_step_size, default=0.1)
    delta = None
    for _ in range(epochs):
        for x, y in batches:
            with crafting(model, x, y) as (x, y):
                delta = _step(model, x, y, torch.zeros_like(x[:1]) if delta is None else delta, threat, step_size, cap)
    if delta is None:
        raise RequestError("a universal perturbation needs images to be crafted on, got no batches")
    return delta


@dataclass(frozen=True)
class UniversalPGD:
    """The perturbation that fits the batch under attack best, added to each of its images.

    By nature an image's result depends on the batch that it is in. To attack images that the perturbation was not
    crafted on, use `craft_universal` on others, then `FixedPerturbation`.

    Args:
        steps: gradient steps, each on the whole batch.
        step_size: length of a step, in the unit of eps; or
        relative_step_size: the same as a multiple of eps; 2.5 / steps if neither is given.
        cap: images whose loss exceeds it push no further (beta in the paper).

    Raises:
        RequestError: the settings are out of range; when called: the threat is no Lp ball.
    """

    steps: int = 40
    step_size: float | None = None
    relative_step_size: float | None = None
    cap: float = 9.0

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        _check_cap(self.cap)
        require_counts(self, "steps")
        step_length(1.0, self.step_size, self.relative_step_size, default=1.0)

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an Lp ball: that of the perturbation, and the box of the images."""
        return _ball_of(threat)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) with labels `y` (N,); nothing is random here."""
        ball = _ball_of(threat)
        step_size = step_length(ball.eps, self.step_size, self.relative_step_size, default=2.5 / self.steps)
        with crafting(model, x, y) as (x, y):
            delta = torch.zeros_like(x[:1])
            for _ in range(self.steps):
                delta = _step(model, x, y, delta, ball, step_size, self.cap)
            return ball.project(x + delta, x)


@dataclass(frozen=True, eq=False)
class FixedPerturbation:
    """Adds one perturbation to every image, whatever the model; the sum is projected onto the threat.

    Args:
        delta: (1, ...) or (...), in the shape of an image.

    Raises:
        RequestError: when called: the perturbation has another shape than the images.
    """

    delta: Tensor

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """`x` (N, ...) plus the perturbation; neither model nor labels are looked at."""
        with crafting(model, x) as (x,):
            if self.delta.shape not in (x.shape[1:], x[:1].shape):
                raise RequestError(
                    f"the perturbation has shape {tuple(self.delta.shape)}, the images {tuple(x.shape[1:])}"
                )
            return threat.project(x + self.delta.to(x).view_as(x[:1]), x)


def _ball_of(threat: Threat) -> LpBall:
    return required(LpBall, threat, "a universal perturbation needs an Lp threat")


def _check_cap(cap: float) -> None:
    if not cap > 0:
        raise RequestError(f"cap, the largest loss that still pushes, must be > 0; got {cap}")


def _step(
    model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, threat: LpBall, step_size: float, cap: float
) -> Tensor:
    """One ascent step of `delta` (1, ...) on one batch."""
    goal = Goal(y)
    gradient, _ = input_gradient(
        model, threat.project(x + delta, x), lambda logits: cross_entropy(logits, goal).clamp_max(cap)
    )
    width = threat.bounds[1] - threat.bounds[0]
    # The ball around no image at all: no change larger than the box is wide has any use.
    ball = replace(threat, bounds=(-width, width))
    total = gradient.sum(dim=0, keepdim=True)
    return ball.project(ball.ascend(delta, total, step_size), torch.zeros_like(delta))
