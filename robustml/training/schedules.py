"""Learning-rate schedules, stepped after every batch, as multiples of the optimizer's own learning rate.

Each is `(optimizer, steps) -> LRScheduler`; progress runs from 0 to 1 over the whole run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.lr_scheduler import OneCycleLR as TorchOneCycleLR

from robustml.errors import RequestError


@dataclass(frozen=True)
class Piecewise:
    """Multiply the learning rate by `factor` at each milestone (Rice 2020: 0.1 at 1/2 and 3/4 of the run).

    Args:
        milestones: progress, 0 to 1, at which the rate drops.
        factor: by how much.

    Raises:
        RequestError: a milestone outside (0, 1).
    """

    milestones: Sequence[float] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        """Catch milestones that were meant as epochs."""
        if not all(0 < milestone < 1 for milestone in self.milestones):
            raise RequestError(
                f"milestones are shares of the run between 0 and 1, got {list(self.milestones)}: "
                "write epoch 100 of 200 as 0.5"
            )

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The schedule for a run of `steps` batches."""
        return _by_progress(
            optimizer, steps, lambda now: self.factor ** sum(now >= milestone for milestone in self.milestones)
        )


@dataclass(frozen=True)
class Cosine:
    """Fall along half a cosine to `final` (Loshchilov & Hutter 2017, without restarts), after a linear warm-up.

    Args:
        warmup: share of the run spent rising from 0.
        final: the last multiple.
    """

    warmup: float = 0.0
    final: float = 0.0

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The schedule for a run of `steps` batches."""

        def multiple(now: float) -> float:
            if now < self.warmup:
                return now / self.warmup
            fall = (now - self.warmup) / max(1 - self.warmup, 1e-12)
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * fall))

        return _by_progress(optimizer, steps, multiple)


@dataclass(frozen=True)
class Triangular:
    """Rise linearly from 0 until `peak`, then fall linearly to 0 (Wong 2020: peak 2/5 on MNIST, 1/2 on CIFAR-10).

    The multiple of batch i of n is that of progress (i + 1) / n, as in the authors' MNIST code.
    """

    peak: float = 0.4

    def __post_init__(self) -> None:
        """Refuse a peak outside the run."""
        if not 0 < self.peak < 1:
            raise RequestError(f"the peak of a triangular schedule must lie between 0 and 1, got {self.peak}")

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The schedule for a run of `steps` batches."""
        return _by_progress(
            optimizer,
            steps,
            lambda now: now / self.peak if now <= self.peak else (1 - now) / (1 - self.peak),
            offset=1,
        )


@dataclass(frozen=True)
class OneCycle:
    """torch's OneCycleLR with the optimizer's rate as the peak (Smith & Topin 2018; HAT: pct_start .25).

    Args:
        pct_start: share of the run spent rising.
        div_factor: the first rate is the peak over this.
        final_div_factor: the last rate is the first over this.
        cycle_momentum: move the momentum against the rate.
    """

    pct_start: float = 0.25
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    cycle_momentum: bool = field(default=False)

    def __call__(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The schedule for a run of `steps` batches."""
        return _OneCycle(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps,
            pct_start=self.pct_start,
            div_factor=self.div_factor,
            final_div_factor=self.final_div_factor,
            cycle_momentum=self.cycle_momentum,
        )


class _OneCycle(TorchOneCycleLR):
    """torch's, which goes on with the number of steps that it is built for, not with that of a checkpoint.

    A run that is resumed for longer would else step beyond its end; the other schedules follow the new length, too.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the checkpoint stood."""
        length = {key: self.__dict__[key] for key in ("total_steps", "_schedule_phases")}
        super().load_state_dict(state_dict | length)


def _by_progress(optimizer: Optimizer, steps: int, multiple: Callable[[float], float], offset: int = 0) -> LRScheduler:
    # Lightning steps once more after the last batch, hence the upper bound.
    return LambdaLR(optimizer, lambda step: multiple(min((step + offset) / max(steps, 1), 1.0)))
