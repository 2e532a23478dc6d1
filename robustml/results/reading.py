"""Files of a run that a stranger may have written: read within bounds, and rid of what a terminal would obey.

Whatever a page, a table or a gate prints of a run comes through here, so that no name, message or key in it can repaint
a terminal, turn the direction of writing, or grow without end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from robustml.errors import RequestError, printable
from robustml.files import read_text, write_text
from robustml.untrusted import read_yaml

Content = TypeVar("Content", bound=BaseModel)

# Far beyond any run of ours.
_MOST_VALUES, _DEEPEST = 2_000_000, 100


def cleaned(content: Any) -> Any:
    """Nested mappings and lists with every string, keys too, made printable.

    Raises:
        ValueError: there are too many values, or they are nested too deeply.
    """
    left = _MOST_VALUES

    def walk(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"it holds more than {_MOST_VALUES:,} values")
        if depth > _DEEPEST:
            raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
        if isinstance(value, str):
            return printable(value)
        if isinstance(value, Mapping):
            return {walk(key, depth + 1): walk(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(inner, depth + 1) for inner in value]
        return value

    return walk(content, 0)


def read_content(path: Path) -> Any:
    """What a JSON file holds, cleaned.

    Raises:
        RequestError: the file is missing, empty, too large or damaged.
    """
    text = read_text(path)
    try:
        return cleaned(json.loads(text, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {_reason(error)}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds, cleaned.

    Raises:
        RequestError: see `read_content`; or it holds something else.
    """
    content = read_content(path)
    if not isinstance(content, dict):
        raise RequestError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def read_settings_file(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, cleaned; empty where the file is absent.

    Raises:
        RequestError: the file is empty, too large or damaged, or holds something else.
    """
    if not path.is_file():
        return {}
    content = cleaned(read_yaml(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RequestError(f"{path} must hold a YAML mapping, got {type(content).__name__}")
    return content


def checked(model: type[Content], content: Any, source: str) -> Content:
    """What a file holds as a model of this package.

    Raises:
        RequestError: it does not pass the checks; one line, that begins with `source`.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise RequestError(f"{source} is not valid: {problem_of(error)}") from error


def write_checked(content: BaseModel, path: Path) -> Path:
    """Check a model and write it as indented JSON, in one step that cannot leave half a file; returns `path`.

    Raises:
        RequestError: it does not pass its checks.
    """
    plain = content.model_dump(by_alias=True, mode="json")
    checked(type(content), plain, path.name)  # model_construct and model_copy build one without any check
    return write_text(path, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def problem_of(error: ValidationError) -> str:
    """The first problem that pydantic found, after its place where that is known, and how many more there are."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such field in this schema; a newer robustml may have written it"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{f'{place}: ' if place else ''}{message}{more}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())
