"""The blocks of the results schema, each with the checks that it must pass by itself."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from robustml.reporting.rates import TOLERANCE, Amount, Count, Fraction, Part, Rate, at_most

__all__ = [
    "AttackResult",
    "Backdoor",
    "Certified",
    "CertifiedPoint",
    "ClassResult",
    "CorruptionPoint",
    "Corruptions",
    "Cost",
    "Curve",
    "CurvePoint",
    "DataFacts",
    "Environment",
    "Flag",
    "ModelFacts",
    "Reliance",
    "SelectedEpoch",
    "Selection",
    "Threat",
    "Twin",
    "WorstCase",
    "WorstGroup",
]


class AttackResult(Part):
    """How the model fared against one attack: the share still right, and what the attack used.

    `rounded_accuracy` is the share still right when the attacked images are stored with 8 bits a value; `pending`
    counts the images that an evaluation stopped early did not come to.
    """

    robust_accuracy: Rate
    rounded_accuracy: Rate | None = None
    max_norm: Amount
    pending: Count = 0
    seconds: Amount
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _of_the_same_images(self) -> AttackResult:
        if self.rounded_accuracy is not None and self.rounded_accuracy.n != self.robust_accuracy.n:
            raise ValueError(f"rounded_accuracy has n {self.rounded_accuracy.n}, but n is {self.robust_accuracy.n}")
        if self.pending > self.robust_accuracy.n:
            raise ValueError(f"{self.pending} images are pending, of {self.robust_accuracy.n}")
        return self


class WorstCase(Part):
    """The share of examples that nothing in `attacks` could turn wrong: attacks, and searches of the curve."""

    robust_accuracy: Rate
    attacks: list[str]


class ClassResult(Part):
    """One class of the test set: clean accuracy, and robust accuracy against the worst case."""

    label: int
    name: str
    n: Count
    clean_accuracy: Rate
    robust_accuracy: Rate


class CurvePoint(Part):
    """Robust accuracy at one budget."""

    eps: Amount
    robust_accuracy: Rate


class Curve(Part):
    """Robust accuracy over growing budgets: `attack` confirmed each point, and all of `attacks` took part."""

    attack: str
    attacks: list[str] = Field(default_factory=list)
    points: list[CurvePoint]

    @property
    def took_part(self) -> list[str]:
        """All attacks and searches whose finds the points count; older files name one."""
        return self.attacks or [self.attack]


class CorruptionPoint(Part):
    """Accuracy under one corruption at one severity."""

    severity: Annotated[int, Field(ge=1, le=5)]
    accuracy: Rate


class Corruptions(Part):
    """Accuracy under common corruptions: name to a point a severity; error is 1 - accuracy, both plain means."""

    accuracy: dict[str, list[CorruptionPoint]]
    mean_accuracy: Fraction
    mean_corruption_error: Fraction
    source: str | None = None

    @model_validator(mode="after")
    def _means_of_the_points(self) -> Corruptions:
        known = [point.accuracy.value for points in self.accuracy.values() for point in points]
        values = [value for value in known if value is not None]
        if not values:
            raise ValueError("corruptions hold no accuracy at all, of which a mean could be")
        if not min(values) - TOLERANCE <= self.mean_accuracy <= max(values) + TOLERANCE:
            raise ValueError(f"mean_accuracy {self.mean_accuracy:g} lies outside {min(values):g} to {max(values):g}")
        if abs(self.mean_accuracy + self.mean_corruption_error - 1) > TOLERANCE:
            raise ValueError("mean_accuracy and mean_corruption_error must add up to 1")
        return self


class Flag(Part):
    """A warning of a sanity check, for the whole run or for one attack."""

    name: str
    attack: str | None = None
    message: str


class SelectedEpoch(Part):
    """Accuracies on the validation split after one epoch, or within it, and on the examples that it was trained on.

    Attributes:
        epoch: from 1.
        step: of the run, after which they were measured. Older versions did not write it, and counted epochs from 0:
            theirs are renumbered here, and get step 0.
    """

    epoch: Count
    step: Count | None = None
    clean_accuracy: Fraction | None = None
    adversarial_accuracy: Fraction | None = None
    train_adversarial_accuracy: Fraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _count_from_1(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("step") is None and isinstance(values.get("epoch"), int):
            return {**values, "epoch": values["epoch"] + 1, "step": 0}
        return values


class Selection(Part):
    """Which epoch was kept and why, beside the last one."""

    monitor: str
    best: SelectedEpoch
    last: SelectedEpoch


def _norm_name(norm: object) -> object:
    """Let a number through as its name: YAML turns `norm: 2` and `norm: .inf` into numbers."""
    if isinstance(norm, bool) or not isinstance(norm, (int, float)):
        return norm
    return f"{norm:g}"


class Threat(Part):
    """The budget of the attacker: a norm ("inf", "2", "1", ...) and its bound, images in [0, 1]."""

    norm: Annotated[str, BeforeValidator(_norm_name)]
    eps: Amount


class DataFacts(Part):
    """Which data set, its fingerprint, the number of examples in each split, and how it was poisoned, if it was."""

    name: str
    fingerprint: str | None = None
    train: Count | None = None
    val: Count | None = None
    test: Count | None = None
    poison: Any = None


class ModelFacts(Part):
    """Which model, its number of parameters, and the digest of its weights."""

    name: str
    parameters: Count | None = None
    sha256: str | None = None


class Cost(Part):
    """What the run cost: seconds of training, the share of them spent attacking (0 to 1), speed, memory in MB.

    Passes of the model in training steps count examples: a forward or a backward pass of a batch of N is N. A robust
    point is one percent of worst-case accuracy.
    """

    train_seconds: Amount | None = None
    attack_share: Fraction | None = None
    samples_per_second: Amount | None = None
    peak_memory_mb: Amount | None = None
    forward_passes: Count | None = None
    backward_passes: Count | None = None
    passes_per_sample: Amount | None = None
    seconds_per_robust_point: Amount | None = None
    passes_per_robust_point: Amount | None = None


class CertifiedPoint(Part):
    """The share of examples certified to keep their label within a radius."""

    radius: Amount
    certified_accuracy: Rate


class Certified(Part):
    """What a method proves of a classifier, beside what attacks on that same classifier left standing.

    `method` "smoothing" is about the smoothed classifier, not the model itself: `accuracy` is that of whichever is
    certified. `acr` is the average certified radius; `abstained` and `contradicted` count examples.
    """

    method: str
    params: dict[str, Any] = Field(default_factory=dict)
    norm: str
    eps: Amount
    accuracy: Rate
    certified_accuracy: Rate
    empirical_accuracy: Rate | None = None
    attacks: list[str] = Field(default_factory=list)
    radii: list[CertifiedPoint] = Field(default_factory=list)
    acr: Amount
    abstained: Count = 0
    contradicted: Count = 0
    seconds: Amount

    @model_validator(mode="after")
    def _never_above_empirical(self) -> Certified:
        at_most("certified_accuracy", self.certified_accuracy, "accuracy", self.accuracy)
        if self.empirical_accuracy is not None:
            at_most("certified_accuracy", self.certified_accuracy, "empirical_accuracy", self.empirical_accuracy)
            at_most("empirical_accuracy", self.empirical_accuracy, "accuracy", self.accuracy)
        for name in ("abstained", "contradicted"):
            if getattr(self, name) > self.accuracy.n:
                raise ValueError(f"{name} is {getattr(self, name)}, of {self.accuracy.n} examples")
        smaller = self.accuracy
        for point in sorted(self.radii, key=lambda point: point.radius):
            at_most(f"radius {point.radius:g}", point.certified_accuracy, "smaller radii", smaller)
            smaller = point.certified_accuracy
        return self


class Environment(Part):
    """Versions and device."""

    python: str | None = None
    torch: str | None = None
    robustml: str | None = None
    device: str | None = None


class Twin(Part):
    """The clean twin of a poisoned model: same config and seed, no poison, shown the same inputs."""

    run: str | None = None
    clean_accuracy: Rate
    attack_success_rate: Rate
    backdoor_recovery_accuracy: Rate | None = None


class WorstGroup(Part):
    """The class, with or without a mark, that is recognised worst."""

    accuracy: Rate
    marked: bool


class Reliance(Part):
    """How much a model relies on a mark: accuracy where it is as in training, and on the worst group."""

    aligned_accuracy: Rate
    worst_group: WorstGroup
    flip_rate_added: Rate
    flip_rate_removed: Rate


class Backdoor(Part):
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
