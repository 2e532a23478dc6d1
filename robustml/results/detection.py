"""What detectors say of a run: the `detection` block of results.json."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from robustml.results.rates import Amount, Block, Count, Fraction, Rate, Settings


class DetectionFigures(Block):
    """What one detector says of one model and its records.

    Attributes:
        found: whether it says that something is there.
        threshold: a score above it is flagged.
        flagged: how many records, or classes, are.
        of: how many were looked at.
        auroc: of the scores, where a plan says which records are poisoned; None where no truth is known, or where the
            model is judged and not the records.
        true_positive_rate: the share of poisoned records that is flagged, where the truth is known.
        false_positive_rate: the share of the others that is.
        seconds: it took.
        facts: what else must be known to read them: the layer, a class, a p-value.
    """

    found: bool
    threshold: float
    flagged: Count
    of: Count
    auroc: Fraction | None = None
    true_positive_rate: Rate | None = None
    false_positive_rate: Rate | None = None
    seconds: Amount
    facts: Settings = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> DetectionFigures:
        if self.flagged > self.of:
            raise ValueError(f"{self.flagged} are flagged, of {self.of}")
        return self


class Detection(DetectionFigures):
    """One detector: of a model and its records, and the same of its clean twin, where that was examined.

    `judges` says what a score belongs to; `scores` are those of classes, records have theirs in suspects.parquet.
    `clean` counts the clean records that it was given.
    """

    judges: Literal["records", "model"]
    scores: list[float] = Field(default_factory=list)
    params: Settings = Field(default_factory=dict)
    clean: Count = 0
    twin: DetectionFigures | None = None
