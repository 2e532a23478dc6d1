"""The blocks of the results schema, each with the checks that it must pass by itself."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

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
    "Part",
    "Rate",
    "Reliance",
    "SelectedEpoch",
    "Selection",
    "Threat",
    "Twin",
    "WorstCase",
    "WorstGroup",
    "at_most",
    "rate",
]

# Rates are counts over n, so that two which differ at all differ by 1/n: far more than rounding in JSON can do.
TOLERANCE = 1e-6

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0.0)]


class Part(BaseModel):
    """What every part of the schema shares: fixed once made, finite numbers, unknown fields kept."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Rate(Part):
    """A proportion of `n` examples with its 95% interval; `value` is None exactly when there were none."""

    value: Fraction | None
    n: Count
    ci95: tuple[Fraction, Fraction]

    @model_validator(mode="after")
    def _inside_its_interval(self) -> Rate:
        low, high = self.ci95
        if (self.value is None) != (self.n == 0):
            raise ValueError(f"value must be null exactly when n is 0, got value {self.value} with n {self.n}")
        if low > high:
            raise ValueError(f"ci95 must be [low, high], got [{low}, {high}]")
        if self.value is not None and not low - TOLERANCE <= self.value <= high + TOLERANCE:
            raise ValueError(f"value {self.value} lies outside its ci95 [{low}, {high}]")
        return self


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


class WorstCase(Part):
    """The share of examples that no attack of `attacks` could turn wrong."""

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
    """Robust accuracy of one attack over growing budgets."""

    attack: str
    points: list[CurvePoint]


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


class Flag(Part):
    """A warning of a sanity check, for the whole run or for one attack."""

    name: str
    attack: str | None = None
    message: str


class SelectedEpoch(Part):
    """Accuracies on the validation split after one epoch, and on the examples that it was trained on."""

    epoch: Count
    clean_accuracy: Fraction | None = None
    adversarial_accuracy: Fraction | None = None
    train_adversarial_accuracy: Fraction | None = None


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
    def _not_both(self) -> Backdoor:
        wanted, kept = self.attack_success_rate, self.backdoor_recovery_accuracy
        if kept is not None and wanted.value is not None and kept.value is not None:
            if wanted.n != kept.n:
                raise ValueError(f"attack_success_rate has n {wanted.n}, backdoor_recovery_accuracy has n {kept.n}")
            if wanted.value + kept.value > 1 + TOLERANCE:
                raise ValueError("no input can get both the wanted label and its own, but the two rates exceed 1")
        return self


def at_most(name: str, lower: Rate, bound: str, upper: Rate) -> None:
    """Refuse a rate above the rate that bounds it, and rates over different numbers of examples."""
    if lower.n != upper.n:
        raise ValueError(f"{name} has n {lower.n}, but {bound} has n {upper.n}: they must be of the same examples")
    if lower.value is not None and upper.value is not None and lower.value > upper.value + TOLERANCE:
        raise ValueError(f"{name} has accuracy {lower.value:g}, above {upper.value:g} of {bound}")


def rate(successes: int, n: int) -> Rate:
    """The proportion `successes / n` with its Wilson 95% interval.

    Args:
        successes: how many of the examples, 0 to `n`.
        n: the number of examples; with none, the value is unknown and the interval is all of [0, 1].

    Raises:
        ValueError: if `successes` is negative or above `n`.

    Source:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
    """
    successes, n = int(successes), int(n)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n, got {successes} with n {n}")
    if n == 0:
        return Rate(value=None, n=0, ci95=(0.0, 1.0))
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    value = successes / n
    # At 0 and n the interval ends at the value itself, but for a rounding error.
    return Rate(
        value=value, n=n, ci95=(max(0.0, min(float(interval.low), value)), min(1.0, max(float(interval.high), value)))
    )
