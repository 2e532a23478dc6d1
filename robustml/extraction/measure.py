"""What a theft was worth: how alike the copy is, how good, and how well it serves to attack the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.extraction.method import Extraction
from robustml.extraction.student import MakeStudent
from robustml.extraction.transcript import Transcript
from robustml.modes import evaluating
from robustml.results import Rate, rate
from robustml.types import Attack

__all__ = [
    "CopyFigures",
    "HonestUse",
    "Point",
    "budget_curve",
    "honest_use",
    "judge_copy",
    "labels_of",
    "sabotage",
]

_BATCH = 500

Labeller = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CopyFigures:
    """How a copy does on test inputs."""

    fidelity: Rate
    """The share on which copy and victim give one label."""
    accuracy: Rate
    """The share on which the copy is right."""


@dataclass(frozen=True)
class Point:
    """A copy made of the first `queries` answers alone."""

    queries: int
    figures: CopyFigures

    def to_dict(self) -> dict[str, Any]:
        """The names of the results schema."""
        return {
            "queries": self.queries,
            "fidelity": self.figures.fidelity.model_dump(),
            "accuracy": self.figures.accuracy.model_dump(),
        }


@dataclass(frozen=True)
class HonestUse:
    """What a defense does to those who ask about test inputs."""

    label_accuracy: Rate
    """The share of right labels, with the defense."""
    label_accuracy_change: float
    """What the defense added to it, as a fraction; below 0 where honest users lose."""
    mean_l1_change: float
    """How far the probabilities moved: the mean over inputs of the sum of absolute changes, 0 to 2."""

    def to_dict(self) -> dict[str, Any]:
        """The names of the results schema."""
        return vars(self) | {"label_accuracy": self.label_accuracy.model_dump()}


@torch.no_grad()
def labels_of(model: nn.Module, x: Tensor) -> Tensor:
    """The labels (N,) that a model gives to `x` (N, ...), in eval mode."""
    with evaluating(model):
        return torch.cat([logits_of(model, part).argmax(dim=1) for part in torch.split(x, _BATCH)])


def judge_copy(copy: nn.Module, x: Tensor, y: Tensor, victim_labels: Tensor) -> CopyFigures:
    """Hold a copy against its victim and the truth.

    Args:
        copy: images (N, ...) in [0, 1] to logits (N, C).
        x: test inputs (N, ...).
        y: their classes (N,).
        victim_labels: what the victim calls them (N,), undefended.
    """
    labels = labels_of(copy, x)
    return CopyFigures(
        rate(int((labels == victim_labels).sum()), len(x)),
        rate(int((labels == y).sum()), len(x)),
    )


def budget_curve(
    method: Extraction,
    heard: Transcript,
    budgets: Sequence[int],
    make_student: MakeStudent,
    x: Tensor,
    y: Tensor,
    victim_labels: Tensor,
    *,
    seed: int,
) -> tuple[list[Point], nn.Module]:
    """Figures over growing budgets, from nested prefixes of one transcript: nothing is asked anew.

    Args:
        method: makes the copies.
        heard: all that was answered.
        budgets: numbers of queries to stop at; the whole transcript is always the last.
        make_student: gives a fresh student.
        x: test inputs (N, ...).
        y: their classes (N,).
        victim_labels: what the victim calls them (N,), undefended.
        seed: every copy is made with the same draws.

    Returns:
        The points, by budget, and the copy of the last.
    """
    points: list[Point] = []
    for queries in sorted({budget for budget in budgets if 0 < budget < len(heard)} | {len(heard)}):
        copy = method.fit(heard.first(queries), make_student, generator=Generator().manual_seed(seed))
        points.append(Point(queries, judge_copy(copy, x, y, victim_labels)))
    return points, copy


def sabotage(
    copy: nn.Module,
    victim: Labeller,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    *,
    generator: Generator | None = None,
) -> Rate:
    """How often adversarial examples that were made on the copy fool the victim.

    Args:
        copy: what the attack sees.
        victim: inputs (N, ...) to labels (N,).
        attack: such as PGD.
        x: inputs (N, ...), all of which the victim gets right.
        y: their classes (N,).
        generator: what the attack draws from.
    """
    fooled = 0
    with evaluating(copy):
        for part, label in zip(torch.split(x, _BATCH), torch.split(y, _BATCH), strict=True):
            x_adv = attack(copy, part, label, generator=generator)
            fooled += int((victim(x_adv) != label).sum())
    return rate(fooled, len(x))


def honest_use(plain: Tensor, defended: Tensor, y: Tensor) -> HonestUse:
    """What honest users lose.

    Args:
        plain: answers (N, C) without the defense.
        defended: answers (N, C) with it, to the same inputs.
        y: the true classes (N,).
    """
    right = int((defended.argmax(dim=1) == y).sum())
    before = int((plain.argmax(dim=1) == y).sum())
    moved = (defended.double() - plain.double()).abs().sum(dim=1).mean() if len(y) else torch.zeros(())
    return HonestUse(rate(right, len(y)), (right - before) / max(len(y), 1), float(moved))
