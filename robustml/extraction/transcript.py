"""What was asked and what was answered, in order: all that a thief takes home."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.errors import RunFailed
from robustml.extraction.victim import QueriesRefused, Victim

__all__ = ["Transcript", "ask"]


@dataclass(frozen=True, eq=False)  # tensors have no single truth value, so a generated __eq__ would raise
class Transcript:
    """Queries and their answers.

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
    asked = 0
    while asked < len(x) and victim.remaining > 0:
        part = x[asked : asked + min(victim.batch_size, victim.remaining)]
        try:
            answers.append(victim(part))
        except QueriesRefused:
            break
        inputs.append(part)
        asked += len(part)
    if not answers:
        raise RunFailed("the victim answered no query at all: its budget is spent, or it refuses this client")
    return Transcript(torch.cat(inputs), torch.cat(answers))
