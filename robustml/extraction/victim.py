"""The model behind an interface, as whoever may only ask it sees it: inputs in, class probabilities out.

Every input asked is counted, and none beyond the budget is ever answered.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError, RunFailed
from robustml.models import as_module
from robustml.modes import evaluating

# Answers are rounded on their way through JSON, and by defenses.
_TOLERANCE = 1e-3


class QueriesRefused(RunFailed):
    """The interface answers this client no longer; what it has answered so far stands."""


class BudgetSpent(QueriesRefused):
    """More was asked than the budget has left; nothing of that request was answered or counted."""


@runtime_checkable
class Defense(Protocol):
    """What an interface does to its answers."""

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """The probabilities (N, C) to give out for inputs `x` (N, ...) in place of `probabilities` (N, C)."""
        ...


@runtime_checkable
class Watch(Defense, Protocol):
    """A defense that remembers what one client asked, and may raise an alarm over it."""

    @property
    def alarm_after(self) -> int | None:
        """How many queries it had seen when it did; None if it has not."""
        ...

    @property
    def held(self) -> int:
        """How many bytes of queries it remembers."""
        ...


class Victim(ABC):
    """A model that can be asked, and nothing else; a subclass answers in `_answer`.

    Args:
        budget: how many inputs may be asked; None for any number.
        batch_size: how many inputs one request should hold.
        defense: what happens to the answers. After an alarm of it, requests are refused.

    Raises:
        RequestError: a budget below 1.
    """

    def __init__(self, budget: int | None = None, batch_size: int = 500, defense: Defense | None = None) -> None:
        if budget is not None and budget < 1:
            raise RequestError(f"a budget must allow at least 1 query, got {budget}")
        self.budget = budget
        self.batch_size = batch_size
        self.defense = defense
        self.queries = 0
        """How many inputs were asked so far."""

    @property
    def remaining(self) -> int:
        """How many may still be asked."""
        return sys.maxsize if self.budget is None else self.budget - self.queries

    @property
    def alarm_after(self) -> int | None:
        """How many queries had been asked when the defense raised an alarm; None if it has not."""
        return self.defense.alarm_after if isinstance(self.defense, Watch) else None

    def __call__(self, x: Tensor) -> Tensor:
        """Inputs (N, ...) in [0, 1] to probabilities (N, C), one-hot where the interface tells labels only.

        Queries are counted before they are asked: an answer that never arrives is paid for too.

        Raises:
            BudgetSpent: N is more than remain; nothing was asked.
            QueriesRefused: the interface refuses this client.
        """
        if self.alarm_after is not None:
            raise QueriesRefused(f"the interface took its client for an attacker after {self.alarm_after} queries")
        if len(x) > self.remaining:
            raise BudgetSpent(
                f"the budget of {self.budget} queries has {self.remaining} left, too few for a request of {len(x)}"
            )
        self.queries += len(x)
        answer = self._answer(x)
        return answer if self.defense is None else self.defense(x, answer)

    @abstractmethod
    def _answer(self, x: Tensor) -> Tensor:
        """The probabilities (N, C) of inputs (N, ...), before any defense."""


class ModelVictim(Victim):
    """A model of our own behind an interface.

    Args:
        model: a module, or any callable, of inputs (N, ...) in [0, 1]; run in eval mode and handed back as found.
        budget: see `Victim`, as for `batch_size` and `defense`.
        outputs: what the model returns: ``"logits"``, turned into probabilities here, or ``"probabilities"``.

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
        defense: Defense | None = None,
    ) -> None:
        super().__init__(budget, batch_size, defense)
        self.model = as_module(model)
        self.outputs = outputs

    @torch.no_grad()
    def _answer(self, x: Tensor) -> Tensor:
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
    if not answer.numel():
        return
    low, high = float(answer.min()), float(answer.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise RequestError(
            f"{source} answered with values from {low:.4g} to {high:.4g}, expected probabilities in [0, 1]: if it "
            "returns logits, put a softmax behind them"
        )
    sums = answer.sum(dim=1)
    worst = float(sums[(sums - 1).abs().argmax()])
    if abs(worst - 1) > _TOLERANCE:
        raise RequestError(f"{source} answered with a row that sums to {worst:.4g}, expected probabilities of 1")


def hard_labels(answers: Tensor) -> Tensor:
    """Answers (N, C) with all of each row on its largest entry."""
    return functional.one_hot(answers.argmax(dim=1), answers.shape[1]).to(answers.dtype)
