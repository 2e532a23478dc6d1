"""The protocols that hold the house together. No logic lives here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

__all__ = ["Attack", "LossOutput", "MinimumNormAttack", "Objective", "Threat"]


@runtime_checkable
class Threat(Protocol):
    """What an attacker may do to one input. `x` and `x_adv` are (N, ...) in `bounds`."""

    eps: float
    bounds: tuple[float, float]

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The feasible point nearest to `x_adv`, per example."""
        ...

    def sample(self, x: Tensor, generator: Generator | None = None, *, boxed: bool = True) -> Tensor:
        """A random start for each example, inside the ball and, if `boxed`, inside the box."""
        ...

    def ascend(self, x_adv: Tensor, grad: Tensor, step_size: float) -> Tensor:
        """One steepest-ascent step of length `step_size` along `grad`, per example, not yet projected."""
        ...

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The size (N,) of each perturbation, in the unit of `eps`."""
        ...

    def contains(self, x_adv: Tensor, x: Tensor, atol: float = 1e-6) -> Tensor:
        """Which examples are feasible: bool (N,)."""
        ...


@runtime_checkable
class Attack(Protocol):
    """An evasion attack: images (N, ...) in [0, 1] and labels (N,) in, adversarial images of the same shape out.

    It runs the model in the mode it finds it in and leaves modes, `requires_grad`, `.grad`, buffers (in eval mode),
    and the global random state as they were. With a `generator` it draws from that alone.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Return adversarial examples for `x`, detached."""
        ...


@runtime_checkable
class MinimumNormAttack(Attack, Protocol):
    """An attack that looks for the smallest perturbation of each example, whatever the threat's `eps`.

    Called like any attack, it returns what it found where that lies inside the threat, and `x` where it does not.
    """

    def smallest(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        """The nearest adversarial example found for each of `x`, in the box but however far; `x` where none was."""
        ...


class LossOutput(NamedTuple):
    """What an objective returns: a scalar loss, the logits (N, C) it was computed from, and figures to log."""

    loss: Tensor
    logits: Tensor
    logs: Mapping[str, Tensor]


@runtime_checkable
class Objective(Protocol):
    """A training method in two halves, so that wrappers (AWP, health checks) can reuse the crafted `x_adv`."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Craft the examples to train on, detached; `x` itself where the method crafts none."""
        ...

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> LossOutput:
        """The loss to minimise, differentiable with respect to the parameters."""
        ...
