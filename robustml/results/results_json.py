"""results.json: all that a run says of a model, how it is checked, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from robustml.results.detection import Detection
from robustml.results.extraction import ExtractionResults
from robustml.results.rates import Block
from robustml.results.reading import checked, read_object, write_checked
from robustml.results.repair import Repair
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
    extraction: ExtractionResults | None = None
    detection: dict[str, Detection] | None = None
    repair: Repair | None = None
    cost: Cost = Field(default_factory=Cost)
    environment: Environment = Field(default_factory=Environment)

    @classmethod
    def of(cls, found: Robustness, **identity: Any) -> Results:
        """What an evaluation found, and what it was of: the fields that `Robustness` does not have."""
        return cls(schema=SCHEMA, **{name: getattr(found, name) for name in Robustness.model_fields} | identity)

    def save(self, path: str | Path) -> Path:
        """Write results.json: to a file whose name ends in .json, or into a folder.

        Raises:
            RequestError: see `write_results`.
        """
        path = Path(path)
        return write_checked(self, path if path.suffix == ".json" else path / "results.json")

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
    write_checked(results, Path(path))


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
    return checked(Results, read_object(path), str(path))
