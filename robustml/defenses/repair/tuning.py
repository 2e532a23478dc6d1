"""The one training loop of the repairs: a copy of a model, tuned on records that lie in memory.

What is random (order, dropout, fresh weights) is drawn from the caller's generator alone. Batch norm learns its
statistics anew from what the copy is shown, as it does in any training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError, nearest
from robustml.evaluation.batches import device_of
from robustml.poisoning.pixels import in_unit_range
from robustml.progress import track
from robustml.types import Labelled

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""The model, inputs (N, ...) in [0, 1] and labels (N,) to the scalar that is to become small."""


class Stepping(Protocol):
    """What an optimizer of torch does, and whatever runs the loss more than once a step."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        ...

    def step(self, closure: Callable[[], float]) -> object:
        """Move the parameters; `closure` sets their gradients and returns the loss."""
        ...


class Rows(NamedTuple):
    """Some of the records, whatever their kind."""

    x: Tensor
    y: Tensor
    ids: Tensor


def rows_of(records: Labelled, rows: Tensor) -> Rows:
    """Those at `rows`: indices (K,), or bool (N,)."""
    return Rows(*(values[rows.to(values.device)] for values in (records.x, records.y, records.ids)))


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy."""
    return functional.cross_entropy(logits_of(model, x), y)


@dataclass(frozen=True)
class Tuning:
    """How long and how fast a copy learns; the learning rate falls linearly to 0.

    Args:
        epochs: passes over the records.
        learning_rate: of the first batch.
        optimizer: "adam", or "sgd" with a momentum of 0.9.
        batch_size: records a batch, of the same number of steps an epoch whatever is left over.
        weight_decay: of every parameter.

    Raises:
        RequestError: a setting out of range, or no such optimizer.
    """

    epochs: int = 20
    learning_rate: float = 0.01
    optimizer: Literal["sgd", "adam"] = "adam"
    batch_size: int = 32
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adam"):
            raise RequestError(f"optimizer={self.optimizer!r} is unknown; {nearest(self.optimizer, ('sgd', 'adam'))}")
        self._at_least(0, "epochs", "learning_rate", "weight_decay")
        self._at_least(1, "batch_size")

    def _at_least(self, least: float, *names: str) -> None:
        for name in names:
            if not getattr(self, name) >= least:
                raise RequestError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def optimizing(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(parameters, self.learning_rate, momentum=0.9, weight_decay=self.weight_decay)

    def batches(self, records: Labelled, device: torch.device, what: str) -> Iterator[tuple[float, Tensor, Tensor]]:
        """The share of the work that is left, inputs in [0, 1] and labels, in an order that the global generator draws.

        A last batch of a single record, of which batch norm makes nothing, is left out where there are others.
        """
        count = len(records.y)
        for epoch in track(range(self.epochs), what):
            parts = [
                rows for rows in torch.split(torch.randperm(count), self.batch_size) if len(rows) > 1 or count == 1
            ]
            for step, rows in enumerate(parts):
                x = in_unit_range(records.x[rows.to(records.x.device)]).to(device)
                left = 1 - (epoch + step / len(parts)) / self.epochs
                yield left, x, records.y[rows.to(records.y.device)].to(device)

    def fit(
        self,
        model: nn.Module,
        records: Labelled,
        loss: Loss = cross_entropy,
        what: str = "fine-tuning",
        optimizer: Stepping | None = None,
    ) -> nn.Module:
        """The model itself, trained in training mode and given back in eval mode; call it within `drawing`.

        `optimizer` is that of `optimizing` if it is left out; another one may run the loss several times a step.
        """
        device = device_of(model)
        optimizer = optimizer or self.optimizing(model.parameters())
        model.train()
        for left, x, y in self.batches(records, device, what):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * left

            def closure(x: Tensor = x, y: Tensor = y, optimizer: Stepping = optimizer) -> float:
                optimizer.zero_grad()
                value = loss(model, x, y)
                torch.autograd.backward(value)
                return float(value.detach())

            optimizer.step(closure)
        model.zero_grad()
        return model.eval()


def copied(model: nn.Module) -> nn.Module:
    """A copy whose every parameter learns, without gradients yet; modes are those of the original."""
    return copy.deepcopy(model).requires_grad_()


def anew(model: nn.Module) -> nn.Module:
    """A copy with fresh weights, drawn by each layer's own rule; call it within `drawing`.

    Raises:
        RequestError: a parameter belongs to a module that has no rule.
    """
    fresh = copied(model)
    for name, module in fresh.named_modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif any(True for _ in module.parameters(recurse=False)):
            raise RequestError(
                f"{name or type(module).__name__} cannot be trained anew: give it a method reset_parameters(), or take "
                "a repair that starts from the model"
            )
    return fresh


@contextmanager
def drawing(model: nn.Module, generator: Generator | None) -> Iterator[None]:
    """All that is drawn inside comes from one number of the generator; the global one is as before, if one is given."""
    seed = int(torch.randint(0, 2**62, (1,), generator=generator, device=generator.device if generator else None))
    device = device_of(model)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        yield
