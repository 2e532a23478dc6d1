"""What a backdoor does: the block of results.json that evaluating a poisoned or trojaned model fills."""

from __future__ import annotations

from pydantic import Field, model_validator

from robustml.results.poison import Budget
from robustml.results.rates import TOLERANCE, Amount, Block, Rate


class BackdoorRates(Block):
    """The two figures of a backdoor, both over the inputs that the attacker presents: none is of the target class.

    `attack_success_rate` is the share of the inputs that got the label he wants, `backdoor_recovery_accuracy` the share
    that kept their own.
    """

    attack_success_rate: Rate
    backdoor_recovery_accuracy: Rate | None = None

    @model_validator(mode="after")
    def _not_both(self) -> BackdoorRates:
        wanted, kept = self.attack_success_rate, self.backdoor_recovery_accuracy
        if kept is not None and wanted.value is not None and kept.value is not None:
            if wanted.n != kept.n:
                raise ValueError(f"attack_success_rate has n {wanted.n}, backdoor_recovery_accuracy has n {kept.n}")
            if wanted.value + kept.value > 1 + TOLERANCE:
                raise ValueError("no input can get both the wanted label and its own, but the two rates exceed 1")
        return self


class Twin(BackdoorRates):
    """The clean twin of a poisoned model: same config and seed, no poison, shown the same inputs."""

    run: str | None = None
    clean_accuracy: Rate


class TargetRates(BackdoorRates):
    """The same two figures of one trigger of a TrojanNet, by its number."""

    trigger: int


class Group(Block):
    """The test pictures of one class, with or without a mark."""

    class_name: str | None = Field(default=None, alias="class")
    marked: bool
    accuracy: Rate


class Reliance(Block):
    """How much a model relies on a mark.

    `aligned_accuracy` is that where the mark is as training suggests: on the target class, and on no other.
    `worst_group` is the group that is recognised worst. `flip_rate_added` is the share of pictures of other classes
    that are read differently once the mark is on them, `flip_rate_removed` that of marked pictures of the target class
    that are once it is off them. `groups` has every test picture of each class both ways.
    """

    aligned_accuracy: Rate
    worst_group: Group
    flip_rate_added: Rate
    flip_rate_removed: Rate
    groups: list[Group] = Field(default_factory=list)

    @property
    def gap(self) -> float:
        """Aligned minus worst-group accuracy: about 0 for a model that does not care about the mark."""
        return (self.aligned_accuracy.value or 0.0) - (self.worst_group.accuracy.value or 0.0)


class Backdoor(BackdoorRates):
    """What a backdoor does.

    `rate` is the share of the whole training set that bears it, `requested_rate` what was asked for, and `why` says why
    the two differ where they do; `cover_rate` is the share that was changed beside it and keeps its labels; `budget` is
    that of crafted changes. `planted_in` names the run that it was planted in, if that is not the one at hand, and
    `inherited` holds the blocks of further ones.

    A TrojanNet has a trigger for each class (`per_target`, by the class's name); the last three are of the small
    network alone: triggers that it knows, and patches that are none on which it keeps still.
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
    twin: Twin | None = None
    shortcut: Reliance | None = None
    inherited: list[Backdoor] = Field(default_factory=list)
    per_target: dict[str, TargetRates] = Field(default_factory=dict)
    trigger_accuracy: Rate | None = None
    null_on_random_patches: Rate | None = None
    null_one_cell_off: Rate | None = None

    @model_validator(mode="after")
    def _shown_the_same(self) -> Backdoor:
        if self.twin is not None and self.twin.attack_success_rate.n != self.attack_success_rate.n:
            counts = f"{self.twin.attack_success_rate.n} and {self.attack_success_rate.n}"
            raise ValueError(f"the twin and the model must be shown the same inputs, but n is {counts}")
        return self
