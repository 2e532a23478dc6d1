"""The model behind an interface, as whoever may only ask it sees it: inputs in, class probabilities out.

Every input asked is counted, and none beyond the budget is ever answered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError, RunFailed
from robustml.models import as_module
from robustml.modes import evaluating

__all__ = ["BudgetSpent", "ModelVictim", "QueriesRefused", "QueryMeter", "Victim", "check_answer"]

# Answers are rounded on their way through JSON, and by defenses.
_TOLERANCE = 1e-3


class QueriesRefused(RunFailed):
    """The interface answers this client no longer; what it has answered so far stands."""


class BudgetSpent(QueriesRefused):
    """More was asked than the budget has left; nothing of that request was answered or counted."""


@runtime_checkable
class Victim(Protocol):
    """A model that can be asked, and nothing else."""

    @property
    def queries(self) -> int:
        """How many inputs were asked so far."""
        ...

    @property
    def remaining(self) -> int:
        """How many may still be asked."""
        ...

    @property
    def batch_size(self) -> int:
        """How many inputs one request should hold."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs (N, ...) in [0, 1] to probabilities (N, C), one-hot where the interface tells labels only.

        Raises:
            BudgetSpent: N is more than remain.
            QueriesRefused: the interface refuses.
        """
        ...


class QueryMeter:
    """Counts queries against a budget.

    Args:
        budget: how many inputs may be asked; None for any number.

    Raises:
        RequestError: a budget below 1.
    """

    def __init__(self, budget: int | None) -> None:
        if budget is not None and budget < 1:
            raise RequestError(f"a budget must allow at least 1 query, got {budget}")
        self.budget = budget
        self.queries = 0

    @property
    def remaining(self) -> int:
        """How many inputs may still be asked."""
        return sys.maxsize if self.budget is None else self.budget - self.queries

    def spend(self, count: int) -> None:
        """Count `count` queries, before they are asked: an answer that never arrives is paid for too.

        Raises:
            BudgetSpent: fewer remain; none is counted.
        """
        if count > self.remaining:
            raise BudgetSpent(
                f"the budget of {self.budget} queries has {self.remaining} left, too few for a request of {count}"
            )
        self.queries += count


class ModelVictim:
    """A model of our own behind an interface.

    Args:
        model: a module, or any callable, of inputs (N, ...) in [0, 1]; run in eval mode and handed back as found.
        budget: how many inputs may be asked; None for any number.
        outputs: what the model returns: ``"logits"``, turned into probabilities here, or ``"probabilities"``.
        batch_size: how many inputs one request should hold.

    Raises:
        RequestError: a budget below 1; when called, answers that are no probabilities.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Any],
        *,
        budget: int | None = None,
        outputs: Literal["logits", "probabilities"] = "logits",
        batch_size: int = 500,
    ) -> None:
        self.model: nn.Module = as_module(model)
        self.outputs = outputs
        self.batch_size = batch_size
        self._meter = QueryMeter(budget)

    @property
    def queries(self) -> int:
        """How many inputs were asked so far."""
        return self._meter.queries

    @property
    def remaining(self) -> int:
        """How many may still be asked."""
        return self._meter.remaining

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Probabilities (N, C) for `x` (N, ...).

        Raises:
            BudgetSpent: N is more than remain.
        """
        self._meter.spend(len(x))
        with evaluating(self.model):
            answer = logits_of(self.model, x)
        if self.outputs == "logits":
            answer = answer.softmax(dim=1)
        check_answer(answer, len(x), "the model")
        return answer


def check_answer(answer: Tensor, count: int, source: str) -> None:
    """Refuse what cannot be the class probabilities of `count` inputs.

    Raises:
        RequestError: another shape, numbers that are not finite or outside [0, 1], or rows that do not sum to 1.
    """
    if answer.ndim != 2 or len(answer) != count or answer.shape[1] < 2:
        raise RequestError(
            f"{source} answered with shape {tuple(answer.shape)}, expected ({count}, classes): a row of class "
            "probabilities for each input"
        )
    if not answer.isfinite().all():
        raise RequestError(f"{source} answered with numbers that are not finite (NaN or infinity)")
    if answer.numel() and (float(answer.min()) < -_TOLERANCE or float(answer.max()) > 1 + _TOLERANCE):
        raise RequestError(
            f"{source} answered with values from {float(answer.min()):.4g} to {float(answer.max()):.4g}, expected "
            "probabilities in [0, 1]: if it returns logits, put a softmax behind them"
        )
    if answer.numel() and float((answer.sum(dim=1) - 1).abs().max()) > _TOLERANCE:
        worst = answer.sum(dim=1)[(answer.sum(dim=1) - 1).abs().argmax()]
        raise RequestError(f"{source} answered with a row that sums to {float(worst):.4g}, expected probabilities of 1")
