"""What an attack climbs: per-example losses of the logits, higher where the attacker is nearer to the goal.

Sources: cross-entropy (Goodfellow et al. 2015), the logit margin of Carlini & Wagner 2017 (arXiv:1608.04644, their f6
without the floor), the difference-of-logits ratio of Croce & Hein 2020 (arXiv:2003.01690) in both versions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from robustml.errors import RequestError, nearest

LossName = Literal["ce", "margin", "dlr"]


class Goal(NamedTuple):
    """What the attacker wants of each example: any class but `y` (N,), or exactly `target` (N,)."""

    y: Tensor
    target: Tensor | None = None

    def reached(self, logits: Tensor) -> Tensor:
        """Where the logits (N, C) already are what the attacker wants: bool (N,)."""
        prediction = logits.argmax(dim=1)
        return prediction != self.y if self.target is None else prediction == self.target

    def take(self, index: Tensor) -> Goal:
        """The goal of the examples at `index`."""
        return Goal(self.y[index], None if self.target is None else self.target[index])


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy (N,) with the true label, or its negative with the target."""
    if goal.target is None:
        return functional.cross_entropy(logits, goal.y, reduction="none")
    return -functional.cross_entropy(logits, goal.target, reduction="none")


def adversarial_lead(logits: Tensor, goal: Goal) -> Tensor:
    """How far (N,) the best wrong class leads the true one, or the target the best other class: minus the margin."""
    label = goal.y if goal.target is None else goal.target
    ahead = _largest_other(logits, label) - _pick(logits, label)
    return ahead if goal.target is None else -ahead


def difference_of_logits_ratio(logits: Tensor, goal: Goal) -> Tensor:
    """The lead (N,) over the spread of the leading logits, so that scaling the logits changes nothing.

    Raises:
        RequestError: fewer than 3 classes (4 with a target): the ratio is not defined.
    """
    needed = 3 if goal.target is None else 4
    if logits.shape[1] < needed:
        raise RequestError(f"loss='dlr' needs at least {needed} classes here, the model has {logits.shape[1]}")
    top = logits.topk(needed, dim=1).values
    if goal.target is None:
        return (_largest_other(logits, goal.y) - _pick(logits, goal.y)) / (top[:, 0] - top[:, 2] + 1e-12)
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12
    return (_pick(logits, goal.target) - _pick(logits, goal.y)) / spread


def attack_loss(name: str) -> Callable[[Tensor, Goal], Tensor]:
    """The loss that configs call `name`.

    Raises:
        RequestError: no loss has that name.
    """
    if name not in _LOSSES:
        raise RequestError(f"attack loss {name!r} is unknown; {nearest(str(name), _LOSSES)}")
    return _LOSSES[name]


def _pick(logits: Tensor, label: Tensor) -> Tensor:
    return logits.gather(1, label.unsqueeze(1)).squeeze(1)


def _largest_other(logits: Tensor, label: Tensor) -> Tensor:
    is_label = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label.unsqueeze(1), True)
    return logits.masked_fill(is_label, -torch.inf).amax(dim=1)


_LOSSES: Mapping[str, Callable[[Tensor, Goal], Tensor]] = {
    "ce": cross_entropy,
    "margin": adversarial_lead,
    "dlr": difference_of_logits_ratio,
}
