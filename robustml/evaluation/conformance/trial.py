"""An attack on trial: small models to run it on, and what every result must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from robustml.attacks.engine.gradient import logits_of
from robustml.calling import run_attack
from robustml.evaluation.conformance.tiny_models import TinyModel, trained_tiny_model
from robustml.evaluation.sanity.guard import RandomState
from robustml.threats import LpBall
from robustml.types import Attack, Threat


class BrokenError(Exception):
    """The attack breaks the property; the message says how."""


class InapplicableError(Exception):
    """The property means nothing for this attack; the message says why."""


@dataclass(frozen=True)
class Trial:
    """The attack under examination and what it may do."""

    attack: Attack
    threat: Threat

    def basic(self) -> TinyModel:
        """Eight digits, the last with a wrong label."""
        model, x, y = trained_tiny_model()
        y = y[:8].clone()
        y[-1] = (y[-1] + 1) % 10
        return TinyModel(model, x[:8].clone(), y)

    def call(self, tiny: TinyModel, seed: int = 0) -> Tensor:
        """What the attack makes of the images themselves."""
        x_adv: Tensor = run_attack(self.attack, *tiny, self.threat, seeded(seed))
        return x_adv

    def run(self, tiny: TinyModel, seed: int = 0) -> Tensor:
        """What the attack makes of copies of the images; whether it is detached is a question of its own."""
        model, x, y = tiny
        x_adv = self.call(TinyModel(model, x.clone(), y.clone()), seed)
        return x_adv.detach() if isinstance(x_adv, Tensor) else x_adv

    def sound(self, tiny: TinyModel) -> None:
        """Run on a model; the result has the right shape, is finite and feasible."""
        x_adv = self.run(tiny)
        require_shape(x_adv, tiny.x)
        require_finite(x_adv)
        require_range(x_adv, self.threat)
        require_budget(x_adv, tiny.x, self.threat)

    @cached_property
    def fooled(self) -> Tensor:
        """Which of 180 digits (N,) it leaves misclassified."""
        tiny = trained_tiny_model()
        return misclassified(tiny, self.run(tiny))


def misclassified(tiny: TinyModel, x_adv: Tensor) -> Tensor:
    """Which images (N, ...) get another label than theirs: bool (N,)."""
    with torch.no_grad():
        return logits_of(tiny.model, x_adv).argmax(1) != tiny.y


def seeded(seed: int) -> Generator:
    """What an attack draws from."""
    return Generator().manual_seed(seed)


def require(kept: bool, reason: str) -> None:
    """Say that the property is broken, unless it is kept."""
    if not kept:
        raise BrokenError(reason)


def require_shape(x_adv: Tensor, x: Tensor) -> None:
    """A tensor of the shape, dtype and device of the images."""
    require(isinstance(x_adv, Tensor), f"returns a {type(x_adv).__name__}, not a tensor")
    require(x_adv.shape == x.shape, f"returns shape {tuple(x_adv.shape)} for images of shape {tuple(x.shape)}")
    require(x_adv.dtype == x.dtype, f"returns {x_adv.dtype} for images of {x.dtype}")
    require(x_adv.device == x.device, f"returns images on {x_adv.device}, got them on {x.device}")


def require_arguments_unchanged(tiny: TinyModel, use: Callable[[TinyModel], object]) -> None:
    """The images and labels that it was given are as they were."""
    x, y = tiny.x.clone(), tiny.y.clone()
    use(tiny)
    require(torch.equal(tiny.x, x), "changes the images that it was given")
    require(torch.equal(tiny.y, y), "changes the labels that it was given")


def require_finite(x_adv: Tensor) -> None:
    """No NaN and no infinity."""
    count = int((~x_adv.isfinite().flatten(1).all(1)).sum())
    require(count == 0, f"{count} of {len(x_adv)} images are not finite")


def require_range(x_adv: Tensor, threat: Threat) -> None:
    """Inside the image box."""
    low, high = threat.bounds
    outside = float(torch.maximum(low - x_adv.min(), x_adv.max() - high))
    require(outside <= 1e-6, f"leaves the image range [{low:g}, {high:g}] by {outside:.3g}")


def require_budget(x_adv: Tensor, x: Tensor, threat: Threat) -> None:
    """Inside the threat."""
    if isinstance(threat, LpBall):
        # By other arithmetic than the threat's own, and without the box, which is a property of its own.
        flat = (x_adv.double() - x.double()).flatten(1).numpy()
        inside = torch.from_numpy(np.linalg.norm(flat, ord=threat.p, axis=1) <= threat.eps * (1 + 2e-5) + 1e-6)
    else:
        inside = threat.contains(x_adv, x)
    excess = float((threat.distance(x_adv, x) - threat.eps).max())
    require(bool(inside.all()), f"{int((~inside).sum())} of {len(x)} images lie outside the threat, by {excess:.3g}")


@contextmanager
def random_state_checked() -> Iterator[None]:
    """Complain if the body moves a global generator."""
    before = RandomState(torch.device("cpu"))
    yield
    moved = before.moved()
    require(not moved, f"moves or reseeds the global generator of {', '.join(moved)}, although it was given one")
