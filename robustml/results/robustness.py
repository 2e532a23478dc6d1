"""How a model fares under attack, corruption and certificates: the blocks of results.json that an evaluation fills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from robustml.results.backdoor import Backdoor
from robustml.results.rates import TOLERANCE, Amount, Block, Count, Fraction, Rate, Settings, at_most
from robustml.results.run import Threat
from robustml.results.shown import table_html, table_text


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
    params: Settings = Field(default_factory=dict)

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

    def __str__(self) -> str:
        return f"{self.robust_accuracy} under the worst of {', '.join(self.attacks) or 'no attack'}"


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
    params: Settings = Field(default_factory=dict)
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
        for name, count in (("abstained", self.abstained), ("contradicted", self.contradicted)):
            if count > self.accuracy.n:
                raise ValueError(f"{name} is {count}, of {self.accuracy.n} examples")
        smaller = self.accuracy
        for point in sorted(self.radii, key=lambda point: point.radius):
            at_most(f"radius {point.radius:g}", point.certified_accuracy, "smaller radii", smaller)
            smaller = point.certified_accuracy
        return self


class Robustness(Block):
    """What an evaluation finds out: the greater part of results.json.

    Not `complete`, the evaluation was stopped early, and robust accuracies are upper bounds.
    """

    threat: Threat
    clean_accuracy: Rate
    attacks: dict[str, AttackResult] = Field(default_factory=dict)
    worst_case: WorstCase | None = None
    complete: bool = True
    per_class: list[ClassResult] = Field(default_factory=list)
    curve: Curve | None = None
    corruptions: Corruptions | None = None
    certified: Certified | None = None
    backdoor: Backdoor | None = None
    flags: list[Flag] = Field(default_factory=list)

    def __str__(self) -> str:
        return table_text(self._rates, self._notes)

    def _repr_html_(self) -> str:
        return table_html(self._rates, self._notes)

    @property
    def _rates(self) -> dict[str, Rate]:
        """What was measured, by name: what was asked for leads."""
        asked = {} if self.backdoor is None else {"backdoor success": self.backdoor.attack_success_rate}
        if self.certified is not None:
            asked[f"certified ({self.certified.method})"] = self.certified.certified_accuracy
        attacks = {name: attack.robust_accuracy for name, attack in self.attacks.items()}
        worst = {"worst case": self.worst_case.robust_accuracy} if attacks and self.worst_case is not None else {}
        return asked | {"clean": self.clean_accuracy} | attacks | worst

    @property
    def _notes(self) -> list[str]:
        """What must be known to read the figures."""
        notes = [f"attacks within {self.threat}"] if self.attacks else []
        if self.corruptions is not None:
            notes.append(f"corruptions: mean accuracy {self.corruptions.mean_accuracy:.1%}")
        flags = (f"! {flag.name}{f' ({flag.attack})' if flag.attack else ''}: {flag.message}" for flag in self.flags)
        return [*notes, *flags]

    @model_validator(mode="after")
    def _figures_agree(self) -> Robustness:
        clean = self.clean_accuracy
        for name, attack in self.attacks.items():
            at_most(f"attacks.{name}", attack.robust_accuracy, "clean_accuracy", clean)
        if self.worst_case is not None:
            worst = self.worst_case.robust_accuracy
            at_most("worst_case", worst, "clean_accuracy", clean)
            known = {*self.attacks, *(self.curve.attacks if self.curve is not None else ())}
            for name in self.worst_case.attacks:
                if name not in known:
                    raise ValueError(f"worst_case.attacks names {name!r}, which attacks does not hold")
            # Not only those it names: a worst case of nobody's would be the clean accuracy.
            for name, attack in self.attacks.items():
                at_most("worst_case", worst, f"attacks.{name}", attack.robust_accuracy)
        if self.certified is not None and self.certified.accuracy.n > clean.n:
            raise ValueError(f"certified.accuracy has n {self.certified.accuracy.n}, above that of clean_accuracy")
        for problem in (*self._of_classes(), *self._of_the_curve()):
            raise ValueError(problem)
        return self

    def _of_classes(self) -> Iterator[str]:
        """What is wrong with the classes."""
        for row in self.per_class:
            place = f"per_class[{row.label}]"
            if row.clean_accuracy.n != row.n:
                yield f"{place}: n is {row.n}, but its clean_accuracy has n {row.clean_accuracy.n}"
            at_most(place, row.robust_accuracy, f"{place}.clean_accuracy", row.clean_accuracy)
        if not self.per_class:
            return
        total = sum(row.n for row in self.per_class)
        if total != self.clean_accuracy.n:
            yield f"per_class holds {total} examples, but clean_accuracy has n {self.clean_accuracy.n}"
        right = sum(row.clean_accuracy.count for row in self.per_class)
        if right != self.clean_accuracy.count:
            yield f"per_class has {right} right, but clean_accuracy {self.clean_accuracy.count}"
        left = sum(row.robust_accuracy.count for row in self.per_class)
        if self.worst_case is not None and left != self.worst_case.robust_accuracy.count:
            yield f"per_class has {left} robust, but worst_case {self.worst_case.robust_accuracy.count}"

    def _of_the_curve(self) -> Iterator[str]:
        """What is wrong with the curve."""
        points = self.curve.points if self.curve is not None else []
        if len({point.robust_accuracy.n for point in points}) > 1:
            yield "curve: all points must have the same n"
        for point in points:
            if point.robust_accuracy.n > self.clean_accuracy.n:
                yield f"curve: n is {point.robust_accuracy.n}, above {self.clean_accuracy.n} of clean_accuracy"
            # A curve may be drawn over a part of the test set, of which the clean accuracy is not known here.
            if point.robust_accuracy.n == self.clean_accuracy.n:
                at_most(f"curve at eps {point.eps:g}", point.robust_accuracy, "clean_accuracy", self.clean_accuracy)
