"""Copycat: train on the labels that the victim gives to images of no matter what.

Correia-Silva, Berriel, Badue, de Souza, Oliveira-Santos, "Copycat CNN: Stealing knowledge by persuading confession with
random non-labeled data", IJCNN 2018, arXiv:1806.05476. Deviations: the student starts from random weights instead of
ImageNet's, and its training images are not augmented.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Generator, nn

from robustml.extraction.method import MakeStudent, Pool, Transcript, ask
from robustml.extraction.student import StudentTraining
from robustml.extraction.victim import Victim, hard_labels


@dataclass(frozen=True)
class Copycat:
    """Uses the label of each answer and nothing else.

    Args:
        training: how the copy is trained.
    """

    training: StudentTraining = field(default_factory=StudentTraining)

    def ask(
        self, victim: Victim, pool: Pool, make_student: MakeStudent, *, generator: Generator | None = None
    ) -> Transcript:
        """The pool, in its order."""
        return ask(victim, pool.x)

    def fit(self, heard: Transcript, make_student: MakeStudent, *, generator: Generator | None = None) -> nn.Module:
        """A student of the labels."""
        return self.training(make_student, heard.x, hard_labels(heard.answers), generator=generator)
