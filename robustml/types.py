"""The protocols that hold the house together. No logic lives here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor, nn


@runtime_checkable
class Threat(Protocol):
    """What an attacker may do to one input. `x` and `x_adv` are (N, ...) in `bounds`."""

    @property
    def eps(self) -> float:
        """The budget, in the unit of `distance`."""
        ...

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest value that an input may hold."""
        ...

    def at(self, eps: float) -> Threat:
        """The same threat with another budget."""
        ...

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

    The threat is given with the call and never stored, so that no figure is measured on another budget than it names.
    It runs the model in the mode it finds it in and leaves modes, `requires_grad`, `.grad`, buffers (in eval mode),
    and the global random state as they were. With a `generator` it draws from that alone.
    """

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Return adversarial examples for `x`, detached."""
        ...


@runtime_checkable
class MinimumNormAttack(Attack, Protocol):
    """An attack that looks for the smallest perturbation of each example, whatever the threat's `eps`.

    Called like any attack, it returns what it found where that lies inside the threat, and `x` where it does not.
    """

    def smallest(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """The nearest adversarial example found for each of `x`, in the box but however far; `x` where none was."""
        ...


class LossOutput(NamedTuple):
    """What an objective returns: a scalar loss, the logits (N, C) it was computed from, and figures to log."""

    loss: Tensor
    logits: Tensor
    logs: Mapping[str, Tensor]


@runtime_checkable
class Objective(Protocol):
    """A training method in two halves, so that wrappers (AWP, health checks) can reuse the crafted `x_adv`.

    Both are told the threat that is trained against; most methods need it in the first half only.
    """

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Craft the examples to train on, detached; `x` itself where the method crafts none."""
        ...

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The loss to minimise, differentiable with respect to the parameters."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """Records: `robustml.data.Records`, or whatever else has their inputs, labels and ids, row by row."""

    @property
    def x(self) -> Tensor:
        """Inputs (N, ...)."""
        ...

    @property
    def y(self) -> Tensor:
        """Labels (N,) int64."""
        ...

    @property
    def ids(self) -> Tensor:
        """Which records these are: (N,) int64, whatever the order."""
        ...


class Suspicion(NamedTuple):
    """What a detector says: how suspect each record is, or the model, class by class or as a whole.

    Attributes:
        scores: the higher the more suspect: (N,), one a record; where the model is judged, (C,), one a class, or (1,).
        threshold: a score above it is flagged.
        ids: (N,) int64, the records that the scores belong to; None where the model is judged.
        found: whether the detector says that something is there; None says so where any score is flagged. A threshold
            that flags one clean record in a hundred needs more than a flag to say so.
        facts: what else must be known to read the scores, as plain values: the layer, a class, a p-value.
    """

    scores: Tensor
    threshold: float
    ids: Tensor | None = None
    found: bool | None = None
    facts: Mapping[str, Any] = MappingProxyType({})

    @property
    def flagged(self) -> Tensor:
        """Which scores lie above the threshold: bool, in the shape of `scores`."""
        return self.scores > self.threshold

    @property
    def says_so(self) -> bool:
        """Whether something was found."""
        return bool(self.flagged.any()) if self.found is None else self.found


@runtime_checkable
class Detector(Protocol):
    """Looks for what was done to a model or to its data. It leaves the model as it found it, like an attack.

    It sees what a defender has: a model, the records that it was trained on, and perhaps a few that are known to be
    clean. It never reads a plan.
    """

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores of the records (N,), by id, or of the model.

        Args:
            model: images (N, ...) in [0, 1] to logits (N, C).
            records: those under suspicion: what the model was, or is to be, trained on.
            clean: others of the same kind, known to be clean.
            generator: of all that is drawn; a record's score depends on the record, never on its row.

        Raises:
            RequestError: the method needs clean records, and there are none; or the data or the model do not fit it.
        """
        ...


@runtime_checkable
class Repair(Protocol):
    """Makes a model forget what should not be in it."""

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """A new model of the same architecture, in eval mode; the old one is untouched.

        The arguments are those of a `Detector`: `records` may be poisoned, `clean` are not.
        """
        ...


@runtime_checkable
class Monitor(Protocol):
    """Watches what a model is shown after it went into service."""

    def profile(self, records: Labelled, model: nn.Module) -> Mapping[str, Tensor]:
        """What is normal: tensors by name, to be kept with the model."""
        ...

    def check(self, window: Labelled, profile: Mapping[str, Tensor]) -> Suspicion:
        """How far each record of a window of inputs is from that."""
        ...
