"""What a backdoor does: the block of results.json that evaluating a poisoned or trojaned model fills."""

from __future__ import annotations

from pydantic import Field, model_validator

from robustml.results.poison import Budget
from robustml.results.rates import TOLERANCE, Amount, Block, Rate

__all__ = ["Backdoor", "Reliance", "Twin", "WorstGroup"]


class Twin(Block):
    """The clean twin of a poisoned model: same config and seed, no poison, shown the same inputs."""

    run: str | None = None
    clean_accuracy: Rate
    attack_success_rate: Rate
    backdoor_recovery_accuracy: Rate | None = None


class WorstGroup(Block):
    """The class, with or without a mark, that is recognised worst."""

    accuracy: Rate
    marked: bool


class Reliance(Block):
    """How much a model relies on a mark: accuracy where it is as in training, and on the worst group."""

    aligned_accuracy: Rate
    worst_group: WorstGroup
    flip_rate_added: Rate
    flip_rate_removed: Rate


class Backdoor(Block):
    """What a backdoor does, over inputs that the attacker presents: none of them of the target class.

    `rate` is the share of the whole training set that bears it, `requested_rate` what was asked for, and `why` says why
    the two differ where they do; `cover_rate` is the share that was changed beside it and keeps its labels.
    `attack_success_rate` is the share of the inputs that got the label he wants, `backdoor_recovery_accuracy` the share
    that kept their own. `planted_in` names the run that it was planted in, if that is not the one at hand, and
    `inherited` holds the blocks of further ones.
    """

    kind: str | None = None
    rate: Amount | None = None
    requested_rate: Amount | None = None
    cover_rate: Amount | None = None
    requested_cover_rate: Amount | None = None
    budget: Budget | None = None
    why: str | None = None
    planted_in: str | None = None
    target: int | str | None = None
    target_class: str | None = None
    attack_success_rate: Rate
    backdoor_recovery_accuracy: Rate | None = None
    twin: Twin | None = None
    shortcut: Reliance | None = None
    inherited: list[Backdoor] = Field(default_factory=list)

    @model_validator(mode="after")
    def _shown_the_same(self) -> Backdoor:
        if self.twin is not None and self.twin.attack_success_rate.n != self.attack_success_rate.n:
            counts = f"{self.twin.attack_success_rate.n} and {self.attack_success_rate.n}"
            raise ValueError(f"the twin and the model must be shown the same inputs, but n is {counts}")
        return self

    @model_validator(mode="after")
    def _not_both(self) -> Backdoor:
        wanted, kept = self.attack_success_rate, self.backdoor_recovery_accuracy
        if kept is not None and wanted.value is not None and kept.value is not None:
            if wanted.n != kept.n:
                raise ValueError(f"attack_success_rate has n {wanted.n}, backdoor_recovery_accuracy has n {kept.n}")
            if wanted.value + kept.value > 1 + TOLERANCE:
                raise ValueError("no input can get both the wanted label and its own, but the two rates exceed 1")
        return self
