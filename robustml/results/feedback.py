"""feedback.json: a filter that learns from its users' reports, with and without an attacker among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustml.results.rates import Block, Count, Fraction
from robustml.results.run import DataFacts, Environment


class FeedbackFigures(Block):
    """One round of feedback and retraining.

    Attributes:
        number: 0 is the filter before any feedback.
        spam: how many mails of this round were spam.
        false_reports: how many of those were reported as not spam.
        trained_on: how many mails the filter that serves after this round was trained on.
        spam_recall: the share of the spam set aside that it finds.
        ham_recall: the share of the other mail set aside that it lets through.
        previous_round_alarm: either recall fell against the round before by more than that monitor allows.
        baseline_alarm: so did the sum of the losses of either against round 0.
        serves: the round that the filter is of: this one, or a trusted one that was gone back to.
    """

    number: Count
    spam: Count
    false_reports: Count
    trained_on: Count
    spam_recall: Fraction
    ham_recall: Fraction
    previous_round_alarm: bool
    baseline_alarm: bool
    serves: Count

    @model_validator(mode="after")
    def _of_what_there_is(self) -> FeedbackFigures:
        if self.false_reports > self.spam:
            raise ValueError(f"{self.false_reports} mails were reported falsely, of {self.spam}")
        if self.serves > self.number:
            raise ValueError(f"the filter of round {self.serves} cannot serve in round {self.number}")
        return self


Rounds = Annotated[Sequence[FeedbackFigures], Field(min_length=1)]


class FeedbackReport(Block):
    """All of feedback.json: `shares` of the spam of each round are reported falsely, but for those of `control`.

    Each simulation has a round more than there are shares: the filter before any feedback.
    """

    command: Literal["feedback"] = "feedback"
    seed: int
    data: DataFacts
    environment: Environment | None = None
    spam: str
    shares: list[Fraction]
    notes: list[str]
    attacked: Rounds
    control: Rounds
    rolled_back: Rounds

    @model_validator(mode="after")
    def _a_round_a_share(self) -> FeedbackReport:
        for name in ("attacked", "control", "rolled_back"):
            if (count := len(getattr(self, name))) != len(self.shares) + 1:
                raise ValueError(f"{name} has {count} rounds, expected {len(self.shares) + 1}")
        return self
