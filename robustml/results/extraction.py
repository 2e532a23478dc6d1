"""What copying a model was worth: the block of results.json that `extract` fills."""

from __future__ import annotations

from pydantic import AliasChoices, Field, model_validator

from robustml.results.rates import Block, Count, Rate, Settings


class ExtractionPoint(Block):
    """A copy made of the first `queries` answers alone.

    `fidelity` is the share of the test set on which copy and victim give one label, `accuracy` that on which the copy
    is right.
    """

    queries: Count
    fidelity: Rate
    accuracy: Rate


class HonestUse(Block):
    """What a defense does to honest users' answers about the test set.

    `label_accuracy_change` is a fraction, below 0 where they lose; `mean_l1_change` is how far the probabilities moved,
    the mean over inputs of the sum of absolute changes, 0 to 2; `false_alarm_after` counts honest queries.
    """

    label_accuracy: Rate
    label_accuracy_change: float
    mean_l1_change: float
    false_alarm_after: Count | None = None


class DefenseReport(Block):
    """A defense of the interface: the copy made without it, what honest users pay, and its alarms if it `watches`."""

    name: str
    params: Settings = Field(default_factory=dict)
    undefended: ExtractionPoint
    undefended_transfer_success: Rate
    watches: bool = False
    alarm_after: Count | None = None
    honest: HonestUse


class ExtractionResults(Block):
    """The `extraction` block: rates are over the test set; `transfer_success` over what the victim gets right.

    `baseline_fidelity` is that of always giving the victim's most frequent label. `queries` is what the copy is made
    of, within the `budget`; `measuring` is what the victim was asked besides, to measure the copy, and `counted` is how
    many inputs the victim itself says that it has answered in all. None where it is not known.
    """

    method: str
    params: Settings = Field(default_factory=dict)
    pool: str
    queries: Count
    budget: Count
    measuring: Count | None = None
    counted: Count | None = None
    fidelity: Rate
    baseline_fidelity: Rate
    accuracy: Rate
    victim_accuracy: Rate
    transfer_success: Rate
    curve: list[ExtractionPoint] = Field(default_factory=list)
    # version 0.1 wrote "defence"
    defense: DefenseReport | None = Field(default=None, validation_alias=AliasChoices("defense", "defence"))

    @model_validator(mode="after")
    def _within_the_budget(self) -> ExtractionResults:
        if self.queries > self.budget:
            raise ValueError(f"queries is {self.queries}, above the budget of {self.budget}")
        return self
