"""results.json: all that a run says of a model, how it is checked, written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from robustml.errors import RequestError
from robustml.files import write_text
from robustml.results.backdoor import Backdoor
from robustml.results.extraction import ExtractionResults
from robustml.results.rates import Block
from robustml.results.reading import read_object
from robustml.results.robustness import Robustness
from robustml.results.run import Cost, DataFacts, Environment, ModelFacts, Selection

SCHEMA = 1


class _Identity(Block):
    """What was measured, by which command."""

    # "schema" is the name in the file; pydantic keeps that attribute for itself.
    schema_version: int = Field(default=SCHEMA, alias="schema")
    command: str
    experiment: str
    seed: int | None
    data: DataFacts
    model: ModelFacts


class Results(Robustness, _Identity):
    """All of results.json, schema 1."""

    selection: Selection | None = None
    backdoor: Backdoor | None = None
    extraction: ExtractionResults | None = None
    cost: Cost = Field(default_factory=Cost)
    environment: Environment = Field(default_factory=Environment)

    @classmethod
    def of(cls, found: Robustness, **identity: Any) -> Results:
        """What an evaluation found, and what it was of: the fields that `Robustness` does not have."""
        return cls(schema=SCHEMA, **{name: getattr(found, name) for name in Robustness.model_fields}, **identity)

    @model_validator(mode="before")
    @classmethod
    def _known_schema(cls, content: Any) -> Any:
        if isinstance(content, Mapping):
            require_schema(content.get("schema"), SCHEMA)
        return content

    @model_validator(mode="after")
    def _within_the_set(self) -> Results:
        if self.data.test is not None and self.clean_accuracy.n > self.data.test:
            raise ValueError(f"clean_accuracy has n {self.clean_accuracy.n}, but data.test is {self.data.test}")
        return self


def require_schema(number: object, known: int) -> None:
    """Refuse a file of another schema; passed on as it is, 1.0 or True would be read as 1."""
    if number != known or isinstance(number, bool):
        raise ValueError(f"schema must be {known}, got {number!r}; a newer robustml may be able to read it")


def write_results(results: Results, path: Path | str) -> None:
    """Check `results` and write them to `path` as indented JSON, in one step that cannot leave half a file.

    Raises:
        RequestError: if the results do not pass the checks of the schema.
    """
    path = Path(path)
    plain = results.model_dump(by_alias=True, mode="json")
    _checked(plain, path.name)  # model_construct and model_copy build one without any check
    write_text(path, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        raise RequestError(f"{source} is not valid: {problem_of(error)}") from error


def problem_of(error: ValidationError) -> str:
    """The first problem that pydantic found, after its place where that is known, and how many more there are."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such field in this schema; a newer robustml may have written it"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{f'{place}: ' if place else ''}{message}{more}"
