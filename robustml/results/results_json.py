"""The results schema: what results.json holds, the checks that it must pass, and how it is read and written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from robustml.errors import RequestError
from robustml.files import write_text
from robustml.results.backdoor import Backdoor, Twin
from robustml.results.rates import Block, Rate, at_most, rate
from robustml.results.reading import read_object
from robustml.results.robustness import (
    AttackResult,
    Certified,
    CertifiedPoint,
    ClassResult,
    CorruptionPoint,
    Corruptions,
    Curve,
    CurvePoint,
    Flag,
    WorstCase,
)
from robustml.results.run import Cost, DataFacts, Environment, ModelFacts, SelectedEpoch, Selection, Threat

__all__ = [
    "SCHEMA",
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
    "Rate",
    "Results",
    "SelectedEpoch",
    "Selection",
    "Threat",
    "Twin",
    "WorstCase",
    "rate",
    "read_results",
    "write_results",
]

SCHEMA = 1


class Results(Block):
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
    backdoor: Backdoor | None = None
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
            _check_numbers(content)
        return content

    @model_validator(mode="after")
    def _figures_agree(self) -> Results:
        for name, attack in self.attacks.items():
            at_most(f"attacks.{name}", attack.robust_accuracy, "clean_accuracy", self.clean_accuracy)
        if self.worst_case is not None:
            worst = self.worst_case.robust_accuracy
            at_most("worst_case", worst, "clean_accuracy", self.clean_accuracy)
            searches = self.curve.attacks if self.curve is not None else []
            for name in self.worst_case.attacks:
                if name not in self.attacks and name in searches:
                    continue
                if name not in self.attacks:
                    raise ValueError(f"worst_case.attacks names {name!r}, which attacks does not hold")
            # Not only those it names: a worst case of nobody's would be the clean accuracy.
            for name, attack in self.attacks.items():
                at_most("worst_case", worst, f"attacks.{name}", attack.robust_accuracy)
        if self.certified is not None and self.certified.accuracy.n > self.clean_accuracy.n:
            raise ValueError(f"certified.accuracy has n {self.certified.accuracy.n}, above that of clean_accuracy")
        if self.data.test is not None and self.clean_accuracy.n > self.data.test:
            raise ValueError(f"clean_accuracy has n {self.clean_accuracy.n}, but data.test is {self.data.test}")
        self._classes_agree()
        self._curve_agrees()
        return self

    def _classes_agree(self) -> None:
        for row in self.per_class:
            place = f"per_class[{row.label}]"
            if row.clean_accuracy.n != row.n:
                raise ValueError(f"{place}: n is {row.n}, but its clean_accuracy has n {row.clean_accuracy.n}")
            at_most(place, row.robust_accuracy, f"{place}.clean_accuracy", row.clean_accuracy)
        if not self.per_class:
            return
        total = sum(row.n for row in self.per_class)
        if total != self.clean_accuracy.n:
            raise ValueError(f"per_class holds {total} examples, but clean_accuracy has n {self.clean_accuracy.n}")
        right = sum(row.clean_accuracy.count for row in self.per_class)
        if right != self.clean_accuracy.count:
            raise ValueError(f"per_class has {right} right, but clean_accuracy {self.clean_accuracy.count}")
        left = sum(row.robust_accuracy.count for row in self.per_class)
        if self.worst_case is not None and left != self.worst_case.robust_accuracy.count:
            raise ValueError(f"per_class has {left} robust, but worst_case {self.worst_case.robust_accuracy.count}")

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
                at_most(f"curve at eps {point.eps:g}", point.robust_accuracy, "clean_accuracy", self.clean_accuracy)


def _check_numbers(content: object, place: str = "") -> None:
    """Refuse NaN and infinity, and what is shaped like a rate and is none, within nested mappings and lists.

    The norm of the threat is passed over: there, infinity is a name.
    """
    if isinstance(content, float) and not math.isfinite(content) and place != "threat.norm":
        raise ValueError(f"{place} is not a finite number")
    inner: list[tuple[object, object]] = []
    if isinstance(content, Mapping):
        inner = list(content.items())
    elif isinstance(content, (list, tuple)):
        inner = list(enumerate(content))
    for key, value in inner:
        _check_numbers(value, f"{place}.{key}" if place else str(key))
    # Blocks that the schema does not know by name hold rates too: those of a TrojanNet's commands, say.
    if isinstance(content, Mapping) and {"value", "n", "ci95"} <= content.keys():
        try:
            Rate.model_validate(dict(content))
        except ValidationError as error:
            raise ValueError(_first(error, place)) from error


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
        RequestError: if the file is missing, empty, not JSON, of another schema, or does not pass the checks.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "results.json"
    return _checked(read_object(path), str(path))


def _checked(content: Mapping[str, Any], source: str) -> Results:
    """Validate, turning pydantic's report of many lines into one."""
    try:
        return Results.model_validate(dict(content))
    except ValidationError as error:
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RequestError(f"{source} is not valid: {_first(error)}{more}") from error


def _first(error: ValidationError, within: str = "") -> str:
    """The first problem, after its place where that is known."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in (*([within] if within else []), *first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
