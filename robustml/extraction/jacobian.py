"""Jacobian-based augmentation: a few images, multiplied along the directions in which the copy's output changes.

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical black-box attacks against machine learning", ASIA CCS
2017, arXiv:1602.02697. Deviations: rounds go on until the budget is spent, the last one on a random part of its images,
instead of a number of rounds with reservoir sampling; the step keeps its sign; new images are clipped to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.errors import RequestError
from robustml.extraction.method import MakeStudent, Pool, Transcript, ask
from robustml.extraction.student import StudentTraining
from robustml.extraction.victim import Victim, hard_labels


@dataclass(frozen=True)
class JacobianAugmentation:
    """Doubles the set of queries each round; learns from labels.

    Args:
        seeds: queries out of the pool to begin with.
        step_size: how far each value of an image moves (lambda in the paper), images in [0, 1].
        training: how the copy, and the substitute of each round, are trained.

    Raises:
        RequestError: no seeds, or no step.
    """

    seeds: int = 100
    step_size: float = 0.1
    training: StudentTraining = field(default_factory=StudentTraining)

    def __post_init__(self) -> None:
        if self.seeds < 1 or not self.step_size > 0:
            raise RequestError(
                f"jacobian needs seeds >= 1 and step_size > 0, got seeds={self.seeds}, step_size={self.step_size}"
            )

    def ask(
        self, victim: Victim, pool: Pool, make_student: MakeStudent, *, generator: Generator | None = None
    ) -> Transcript:
        """The seeds, then what the substitute of each round makes of all images so far."""
        heard = ask(victim, pool.x[: self.seeds])
        while victim.remaining > 0:
            substitute = self.fit(heard, make_student, generator=generator)
            new = self._augmented(substitute, heard)
            order = torch.randperm(len(new), generator=generator).to(new.device)
            before, heard = len(heard), ask(victim, new[order], heard)
            if len(heard) == before:
                break
        return heard

    def fit(self, heard: Transcript, make_student: MakeStudent, *, generator: Generator | None = None) -> nn.Module:
        """A student of the labels."""
        return self.training(make_student, heard.x, hard_labels(heard.answers), generator=generator)

    def _augmented(self, substitute: nn.Module, heard: Transcript) -> Tensor:
        """Each image, a step up the substitute's score of the class that the victim gave it."""
        with crafting(substitute, heard.x, heard.answers.argmax(dim=1)) as (x, label):
            gradient, _ = input_gradient(
                substitute, x, lambda logits: logits.softmax(dim=1).gather(1, label.unsqueeze(1)).squeeze(1)
            )
            return (x + self.step_size * gradient.sign()).clamp(0, 1)
