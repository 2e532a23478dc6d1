"""How a model fares under attack, corruption and certificates: the blocks of results.json that an evaluation fills."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from robustml.results.rates import TOLERANCE, Amount, Block, Count, Fraction, Rate, at_most

__all__ = [
    "AttackResult",
    "Certified",
    "CertifiedPoint",
    "ClassResult",
    "CorruptionPoint",
    "Corruptions",
    "Curve",
    "CurvePoint",
    "Flag",
    "WorstCase",
]


class AttackResult(Block):
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


class WorstCase(Block):
    """The share of examples that nothing in `attacks` could turn wrong: attacks, and searches of the curve."""

    robust_accuracy: Rate
    attacks: list[str]


class ClassResult(Block):
    """One class of the test set: clean accuracy, and robust accuracy against the worst case."""

    label: int
    name: str
    n: Count
    clean_accuracy: Rate
    robust_accuracy: Rate


class CurvePoint(Block):
    """Robust accuracy at one budget."""

    eps: Amount
    robust_accuracy: Rate


class Curve(Block):
    """Robust accuracy over growing budgets: `attack` confirmed each point, and all of `attacks` took part."""

    attack: str
    attacks: list[str] = Field(default_factory=list)
    points: list[CurvePoint]

    @property
    def took_part(self) -> list[str]:
        """All attacks and searches whose finds the points count; older files name one."""
        return self.attacks or [self.attack]


class CorruptionPoint(Block):
    """Accuracy under one corruption at one severity."""

    severity: Annotated[int, Field(ge=1, le=5)]
    accuracy: Rate


class Corruptions(Block):
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


class Flag(Block):
    """A warning of a sanity check, for the whole run or for one attack."""

    name: str
    attack: str | None = None
    message: str


class CertifiedPoint(Block):
    """The share of examples certified to keep their label within a radius."""

    radius: Amount
    certified_accuracy: Rate


class Certified(Block):
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
