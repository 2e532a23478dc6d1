"""A guard against losses that are not finite, which waits for an accelerator once in many steps and not in each."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustml.errors import RunFailed


class FiniteLosses:
    """Keeps the losses of the last steps, and looks at all of them together.

    Args:
        every: look by itself after so many; who writes weights or figures down looks before that.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self._seen: list[tuple[Tensor, int, int]] = []
        self._epoch = 0

    def note(self, loss: Tensor, *, step: int, epoch: int, batch: int) -> None:
        """Remember the scalar `loss` of a step, an epoch and a batch, all counted from 0.

        Raises:
            RunFailed: see `look`.
        """
        self._seen.append((loss.detach(), step, batch))
        self._epoch = epoch
        if len(self._seen) >= self.every:
            self.look()

    def look(self) -> None:
        """Wait for the losses that were not looked at yet.

        Raises:
            RunFailed: one is not finite; names the first step with such a loss, counted from 1.
        """
        seen, self._seen = self._seen, []
        if not seen:
            return
        losses = torch.stack([loss.float() for loss, _, _ in seen]).tolist()
        for loss, (_, step, batch) in zip(losses, seen, strict=True):
            if not math.isfinite(loss):
                raise RunFailed(
                    f"the loss became {loss} at step {step + 1} (epoch {self._epoch + 1}, batch {batch + 1}): lower "
                    "the learning rate, clip gradients (trainer.gradient_clip_val=1), or train in "
                    "trainer.precision=32-true"
                )
