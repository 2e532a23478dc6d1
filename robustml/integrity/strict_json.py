"""JSON of which every reader makes the same: no key twice, no NaN, nothing nested without end."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def strict_json(text: str | bytes) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: it is no JSON in UTF-8, holds a key twice or NaN, or is nested too deeply.
    """
    try:
        content = text if isinstance(text, str) else text.decode()
        return json.loads(content, object_pairs_hook=_once, parse_constant=_refuse, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands there twice")
    return content


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)
