"""What an extraction was worth: how alike the copy is, how good, and how well it serves to attack the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.calling import run_attack
from robustml.extraction.method import Extraction, MakeStudent, Transcript
from robustml.modes import evaluating
from robustml.progress import track
from robustml.results import ExtractionPoint, HonestUse, Rate, rate
from robustml.types import Attack, Threat

_BATCH = 500


@dataclass(frozen=True, eq=False)  # tensors have no single truth value, so a generated __eq__ would raise
class Reference:
    """What a copy is held against.

    Args:
        x: test inputs (N, ...) in [0, 1].
        y: their classes (N,).
        answers: what the undefended victim says of them, probabilities (N, C).
    """

    x: Tensor
    y: Tensor
    answers: Tensor

    @property
    def labels(self) -> Tensor:
        """The victim's own labels (N,)."""
        return self.answers.argmax(dim=1)


@torch.no_grad()
def labels_of(model: nn.Module, x: Tensor) -> Tensor:
    """The labels (N,) that a model gives to `x` (N, ...), in eval mode."""
    with evaluating(model):
        return torch.cat([logits_of(model, part).argmax(dim=1) for part in torch.split(x, _BATCH)])


def judge_copy(copy: nn.Module, queries: int, reference: Reference) -> ExtractionPoint:
    """Hold a copy, images (N, ...) in [0, 1] to logits (N, C), against its victim and the truth."""
    labels = labels_of(copy, reference.x)
    return ExtractionPoint(
        queries=queries,
        fidelity=rate(int((labels == reference.labels).sum()), len(labels)),
        accuracy=rate(int((labels == reference.y).sum()), len(labels)),
    )


def budget_curve(
    method: Extraction,
    heard: Transcript,
    budgets: Sequence[int],
    make_student: MakeStudent,
    reference: Reference,
    *,
    seed: int,
) -> tuple[list[ExtractionPoint], nn.Module]:
    """Figures over growing budgets, from nested prefixes of one transcript: nothing is asked anew.

    Args:
        method: makes the copies.
        heard: all that was answered.
        budgets: numbers of queries to stop at; the whole transcript is always the last.
        make_student: gives a fresh student.
        reference: what the copies are held against.
        seed: every copy is made with the same draws.

    Returns:
        The points, by budget, and the copy of the last.
    """
    points: list[ExtractionPoint] = []
    for queries in sorted({budget for budget in budgets if 0 < budget < len(heard)} | {len(heard)}):
        copy = method.fit(heard.first(queries), make_student, generator=Generator().manual_seed(seed))
        points.append(judge_copy(copy, queries, reference))
    return points, copy


def transfer_success(
    copy: nn.Module,
    victim: Callable[[Tensor], Tensor],
    attack: Attack,
    threat: Threat,
    x: Tensor,
    y: Tensor,
    *,
    generator: Generator | None = None,
) -> Rate:
    """How often adversarial examples that were made on the copy fool the victim.

    Args:
        copy: what the attack sees.
        victim: inputs (N, ...) to probabilities or logits (N, C).
        attack: such as PGD.
        threat: what it may do.
        x: inputs (N, ...), all of which the victim gets right.
        y: their classes (N,).
        generator: what the attack draws from.
    """
    fooled = 0
    with evaluating(copy):
        parts = list(zip(torch.split(x, _BATCH), torch.split(y, _BATCH), strict=True))
        for part, label in track(parts, "attacks on the copy"):
            x_adv = run_attack(attack, copy, part, label, threat, generator)
            fooled += int((victim(x_adv).argmax(dim=1) != label).sum())
    return rate(fooled, len(x))


def honest_use(plain: Tensor, defended: Tensor, y: Tensor, false_alarm_after: int | None = None) -> HonestUse:
    """What honest users lose by a defense.

    Args:
        plain: answers (N, C) without it.
        defended: answers (N, C) with it, to the same inputs.
        y: the true classes (N,).
        false_alarm_after: how many of these inputs it took for an attacker's; None for no alarm.
    """
    right, before = (int((answers.argmax(dim=1) == y).sum()) for answers in (defended, plain))
    moved = (defended.double() - plain.double()).abs().sum(dim=1).mean() if len(y) else torch.zeros(())
    return HonestUse(
        label_accuracy=rate(right, len(y)),
        label_accuracy_change=(right - before) / max(len(y), 1),
        mean_l1_change=float(moved),
        false_alarm_after=false_alarm_after,
    )
