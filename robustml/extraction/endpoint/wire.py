"""Numbers over the wire: ``{"inputs": [...]}`` and ``{"probabilities": [...]}``, read as from somebody hostile.

What a text may cost is known before anything is built of it: its brackets, commas and quotes are counted first, which
takes milliseconds, and what has more of them than the expected numbers need is refused. So a body of empty lists, of
nested lists or of endless digits costs about as much as the bytes that it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

# Shorter texts cost next to nothing, whatever they hold, and get the more exact complaint.
_SHORT = 2**16
# Keys beside the one that is asked for are nobody's business, but a few do no harm.
_SPARE = 64
# The longest of float64's shortest decimals has 17 digits, exact ones are written with 30 or so. Integers of thousands
# of digits take quadratic time.
_MOST_DIGITS = 400
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


class Misshapen(ValueError):
    """The text is no JSON, or its numbers are not what they should be."""


class TooMany(Misshapen):
    """More lists or numbers than were expected at most."""


def lists_in(shape: Sequence[int]) -> int:
    """How many brackets open in one array of `shape`, written as nested lists."""
    return sum(math.prod(shape[:depth]) for depth in range(len(shape)))


def read_json(text: bytes, *, lists: int, numbers: int) -> Any:
    """What a JSON text holds, of which not more is expected than so many lists and numbers.

    Raises:
        TooMany: it holds more.
        Misshapen: it is no JSON in UTF-8, or nested deeper than 200.
    """
    if len(text) > _SHORT:
        if text.count(b"[") > lists + _SPARE or text.count(b",") > numbers + _SPARE or text.count(b'"') > 2 * _SPARE:
            raise TooMany(f"more than {lists:,} lists or {numbers:,} numbers")
        if b"0" * _MOST_DIGITS in text.translate(_DIGITS):
            raise Misshapen(f"a number of more than {_MOST_DIGITS} digits")
    try:
        return from_json(text, cache_strings=False)
    except (ValueError, RecursionError) as error:
        raise Misshapen("not JSON") from error


def rectangle(values: Any, shape: Sequence[int]) -> NDArray[np.float64]:
    """Nested lists as an array (N, *shape), N being their length.

    Raises:
        Misshapen: another shape, or something else than numbers; true and false are none, nor are strings.
    """
    if not isinstance(values, list):
        raise Misshapen(f"expected a list of numbers of shape {list(shape)}")
    level: list[Any] = values
    for size in shape:
        if not all(type(part) is list and len(part) == size for part in level):
            raise Misshapen(f"not all are lists of numbers of shape {list(shape)}")
        level = list(chain.from_iterable(level))
    if not {type(value) for value in level} <= {int, float}:
        raise Misshapen(f"expected numbers of shape {list(shape)}, got something else")
    try:
        return np.array(level, dtype=np.float64).reshape(len(values), *shape)
    except OverflowError as error:
        raise Misshapen("expected numbers, got an integer that no float can hold") from error
