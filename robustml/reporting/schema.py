"""The results schema: what results.json holds, the checks that it must pass, and how it is read and written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from robustml.errors import RequestError
from robustml.reporting.atomic import write_text

__all__ = [
    "SCHEMA",
    "AttackResult",
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
    "Rate",
    "Results",
    "SelectedEpoch",
    "Selection",
    "Threat",
    "WorstCase",
    "rate",
    "read_results",
    "write_results",
]

SCHEMA = 1
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
    """Accuracies on the validation split after one epoch."""

    epoch: Count
    clean_accuracy: Fraction | None = None
    adversarial_accuracy: Fraction | None = None


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
    """What the run cost: seconds of training, the share of them spent attacking (0 to 1), speed, memory in MB."""

    train_seconds: Amount | None = None
    attack_share: Fraction | None = None
    samples_per_second: Amount | None = None
    peak_memory_mb: Amount | None = None


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
        _at_most("certified_accuracy", self.certified_accuracy, "accuracy", self.accuracy)
        if self.empirical_accuracy is not None:
            _at_most("certified_accuracy", self.certified_accuracy, "empirical_accuracy", self.empirical_accuracy)
            _at_most("empirical_accuracy", self.empirical_accuracy, "accuracy", self.accuracy)
        smaller = self.accuracy
        for point in sorted(self.radii, key=lambda point: point.radius):
            _at_most(f"radius {point.radius:g}", point.certified_accuracy, "smaller radii", smaller)
            smaller = point.certified_accuracy
        return self


class Environment(Part):
    """Versions and device."""

    python: str | None = None
    torch: str | None = None
    robustml: str | None = None
    device: str | None = None


class Results(Part):
    """All of results.json, schema 1."""

    # "schema" is the name in the file; pydantic keeps that attribute for itself.
    schema_version: int = Field(default=SCHEMA, alias="schema")
    command: str
    experiment: str
    seed: int | None
    data: DataFacts
    model: ModelFacts
    threat: Threat
    clean_accuracy: Rate
    attacks: dict[str, AttackResult] = Field(default_factory=dict)
    worst_case: WorstCase | None = None
    # Without it, the evaluation was stopped early and the robust accuracies are upper bounds.
    complete: bool = True
    per_class: list[ClassResult] = Field(default_factory=list)
    curve: Curve | None = None
    corruptions: Corruptions | None = None
    flags: list[Flag] = Field(default_factory=list)
    selection: Selection | None = None
    backdoor: dict[str, Any] | None = None
    extraction: dict[str, Any] | None = None
    certified: Certified | None = None
    cost: Cost = Field(default_factory=Cost)
    environment: Environment = Field(default_factory=Environment)

    @model_validator(mode="before")
    @classmethod
    def _known_schema(cls, content: Any) -> Any:
        if isinstance(content, Mapping):
            # Passed on as it is, 1.0 or True would be read as 1.
            number = content.get("schema")
            if number != SCHEMA or isinstance(number, bool):
                raise ValueError(f"schema must be {SCHEMA}, got {number!r}; a newer robustml may be able to read it")
            infinite = _not_finite(content)
            if infinite:
                raise ValueError(f"{infinite} is not a finite number")
        return content

    @model_validator(mode="after")
    def _figures_agree(self) -> Results:
        for name, attack in self.attacks.items():
            _at_most(f"attacks.{name}", attack.robust_accuracy, "clean_accuracy", self.clean_accuracy)
        if self.worst_case is not None:
            worst = self.worst_case.robust_accuracy
            _at_most("worst_case", worst, "clean_accuracy", self.clean_accuracy)
            for name in self.worst_case.attacks:
                if name not in self.attacks:
                    raise ValueError(f"worst_case.attacks names {name!r}, which attacks does not hold")
                _at_most("worst_case", worst, f"attacks.{name}", self.attacks[name].robust_accuracy)
        self._classes_agree()
        self._curve_agrees()
        return self

    def _classes_agree(self) -> None:
        for row in self.per_class:
            place = f"per_class[{row.label}]"
            if row.clean_accuracy.n != row.n:
                raise ValueError(f"{place}: n is {row.n}, but its clean_accuracy has n {row.clean_accuracy.n}")
            _at_most(place, row.robust_accuracy, f"{place}.clean_accuracy", row.clean_accuracy)
        total = sum(row.n for row in self.per_class)
        if self.per_class and total != self.clean_accuracy.n:
            raise ValueError(f"per_class holds {total} examples, but clean_accuracy has n {self.clean_accuracy.n}")

    def _curve_agrees(self) -> None:
        points = self.curve.points if self.curve is not None else []
        if len({point.robust_accuracy.n for point in points}) > 1:
            raise ValueError("curve: all points must have the same n")
        for point in points:
            if point.robust_accuracy.n > self.clean_accuracy.n:
                raise ValueError(
                    f"curve: n is {point.robust_accuracy.n}, above {self.clean_accuracy.n} of clean_accuracy"
                )
            # A curve may be drawn over a part of the test set, of which the clean accuracy is not known here.
            if point.robust_accuracy.n == self.clean_accuracy.n:
                _at_most(f"curve at eps {point.eps:g}", point.robust_accuracy, "clean_accuracy", self.clean_accuracy)


def _at_most(name: str, lower: Rate, bound: str, upper: Rate) -> None:
    """Refuse a rate above the rate that bounds it, and rates over different numbers of examples."""
    if lower.n != upper.n:
        raise ValueError(f"{name} has n {lower.n}, but {bound} has n {upper.n}: they must be of the same examples")
    if lower.value is not None and upper.value is not None and lower.value > upper.value + TOLERANCE:
        raise ValueError(f"{name} has accuracy {lower.value:g}, above {upper.value:g} of {bound}")


def _not_finite(content: object, place: str = "") -> str | None:
    """The place of the first NaN or infinity within nested mappings and lists, or None.

    The norm of the threat is passed over: there, infinity is a name.
    """
    if isinstance(content, float):
        return None if math.isfinite(content) or place == "threat.norm" else place
    inner: list[tuple[object, object]] = []
    if isinstance(content, Mapping):
        inner = list(content.items())
    elif isinstance(content, (list, tuple)):
        inner = list(enumerate(content))
    for key, value in inner:
        found = _not_finite(value, f"{place}.{key}" if place else str(key))
        if found:
            return found
    return None


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


def write_results(results: Results | Mapping[str, Any], path: Path | str) -> None:
    """Check `results` and write them to `path` as indented JSON, in one step that cannot leave half a file.

    Raises:
        RequestError: if the results do not pass the checks of the schema.
    """
    path = Path(path)
    # A Results object is checked again: model_construct and model_copy build one without any check.
    content = results.model_dump(by_alias=True) if isinstance(results, Results) else dict(results)
    checked = _checked(content, path.name)
    try:
        plain = checked.model_dump(by_alias=True, mode="json")
        text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RequestError(f"{path.name} holds a value that JSON cannot: {' '.join(str(error).split())}") from error
    write_text(path, text + "\n")


def read_results(path: Path | str) -> Results:
    """Read and check a results.json.

    Args:
        path: the file, or the run directory that holds it.

    Raises:
        RequestError: if the file is missing, not JSON, of another schema, or does not pass the checks.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "results.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}; expected a run directory") from error
    except ValueError as error:
        raise RequestError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return _checked(content, str(path))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _checked(content: Mapping[str, Any], source: str) -> Results:
    """Validate, turning pydantic's report of many lines into one."""
    try:
        return Results.model_validate(dict(content))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = problems[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RequestError(f"{source} is not valid: {place + ': ' if place else ''}{message}{more}") from error
