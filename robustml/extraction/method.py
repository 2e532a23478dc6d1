"""What every way to copy a model has in common: it asks queries out of a pool, and fits a student to the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from robustml.errors import RunFailed
from robustml.extraction.victim import QueriesRefused, Victim
from robustml.progress import track

MakeStudent = Callable[[], nn.Module]
"""Gives a fresh model to train, images (N, ...) in [0, 1] to logits (N, C)."""


@dataclass(frozen=True, eq=False)  # tensors have no single truth value, so a generated __eq__ would raise
class Pool:
    """Queries to choose from, in an order that holds no meaning.

    Args:
        x: inputs (N, ...) in [0, 1], in the shape that the victim takes.
        labels: classes (N,) that the pool itself has, none of the victim's; None where it has none.
    """

    x: Tensor
    labels: Tensor | None = None

    def to(self, device: torch.device) -> Pool:
        """The same queries on `device`."""
        return Pool(self.x.to(device), None if self.labels is None else self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Transcript:
    """What was asked and what was answered, in order.

    Args:
        x: the inputs asked (N, ...), in [0, 1].
        answers: probabilities (N, C), as the interface gave them.
    """

    x: Tensor
    answers: Tensor

    def __len__(self) -> int:
        """How many queries were answered."""
        return len(self.x)

    def first(self, count: int) -> Transcript:
        """The first `count` queries: what a smaller budget would have heard."""
        return Transcript(self.x[:count], self.answers[:count])


@runtime_checkable
class Extraction(Protocol):
    """A method in two halves, so that copies of smaller budgets can be made without asking anew.

    All its randomness comes from `generator`; the global one if None.
    """

    def ask(
        self, victim: Victim, pool: Pool, make_student: MakeStudent, *, generator: Generator | None = None
    ) -> Transcript:
        """Spend the victim's budget on queries out of the pool, or made from it."""
        ...

    def fit(self, heard: Transcript, make_student: MakeStudent, *, generator: Generator | None = None) -> nn.Module:
        """A copy, in eval mode: images (N, ...) in [0, 1] to logits (N, C)."""
        ...


def ask(victim: Victim, x: Tensor, heard: Transcript | None = None) -> Transcript:
    """Ask `x` (N, ...) in order until it is through, the budget is spent, or the interface refuses.

    Args:
        victim: whom to ask.
        x: inputs in [0, 1].
        heard: what was asked before; the new answers are added behind it.

    Raises:
        RunFailed: nothing has been answered at all.
    """
    inputs, answers = ([], []) if heard is None else ([heard.x], [heard.answers])
    size, wanted = victim.batch_size, x[: victim.remaining]
    parts = torch.split(wanted, size) if len(wanted) else ()
    for part in track(parts, "queries") if len(parts) > 1 else parts:
        try:
            answers.append(victim(part))
        except QueriesRefused:
            break
        inputs.append(part)
    if not answers:
        raise RunFailed("the victim answered no query at all: its budget is spent, or it refuses this client")
    return Transcript(torch.cat(inputs), torch.cat(answers))
