"""Transfer: craft on a surrogate model, attack another with the result.

Papernot, McDaniel, Goodfellow, "Transferability in machine learning", 2016, arXiv:1605.07277. The victim is never
called, so that it may be anything. What fools it better than an attack on its own gradients does shows that they are
masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.calling import run_attack
from robustml.modes import evaluating
from robustml.types import Attack, Threat


@dataclass(frozen=True)
class Transfer:
    """An attack that sees another model than the one it is aimed at.

    Args:
        surrogate: images (N, ...) in [0, 1] to logits. Moved to the images' device and into eval mode for the attack,
            and handed back as found.
        attack: what to run on it.
    """

    surrogate: nn.Module
    attack: Attack
    black_box: ClassVar[bool] = True

    @property
    def gives_up(self) -> bool:
        """Whether what the inner attack does not turn comes back as it was."""
        return bool(getattr(self.attack, "gives_up", False))

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Any:
        """What the attack makes of `x` (N, ...) with labels `y` (N,) on the surrogate; `model` is never called."""
        with evaluating(self.surrogate), _moved(self.surrogate, x.device):
            return run_attack(self.attack, self.surrogate, x, y, threat, generator)


@contextmanager
def _moved(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put the model on `device`; back where its first parameter was afterwards."""
    found = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), device)
    model.to(device)
    try:
        yield
    finally:
        model.to(found)
