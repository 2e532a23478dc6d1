"""What a poison is asked for, refused in one line where it cannot be had: at construction, before any data are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from robustml.errors import RequestError, nearest


def check_kind(kind: str, known: Sequence[str]) -> None:
    """Refuse a variant that is none of the `known` ones."""
    if kind not in known:
        raise RequestError(f"poison.kind={kind!r} is unknown; {nearest(str(kind), known)}")


def check_number(
    value: object,
    name: str,
    expected: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Refuse what is no finite number in a range: text, a truth value, NaN, infinity, or a number outside.

    Args:
        value: whatever the config holds.
        name: of the option.
        expected: what it should be, to follow the name: "is an amplitude in (0, 1]".
        low: the smallest value.
        high: the largest value.
        above: `low` itself is too small.
        whole: 1.5 is none either.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise RequestError(f"{name} {expected}; got {value!r}")
    if not (low < value if above else low <= value) or value > high:
        # whoever thinks in bytes: values are in [0, 1] everywhere
        in_bytes = high == 1 < value <= 255 and float(value).is_integer()
        raise RequestError(f"{name} {expected}; got {value}" + (f"; did you mean {value:g}/255?" if in_bytes else ""))


check_whole = partial(check_number, whole=True)
"""Refuse what is no whole number in a range."""


def check_rate(rate: object, name: str = "poison.rate") -> None:
    """Refuse what is no share of a set."""
    check_number(rate, name, "is the share of the training set that is changed, in [0, 1]", 0, 1)


def check_pair(value: object, name: str, expected: str, low: float = -math.inf) -> None:
    """Refuse what are no two whole numbers, such as [row, column], of at least `low`."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise RequestError(f"{name} {expected}; got {value!r}")
    for number in value:
        check_whole(number, name, expected, low)


def check_stamp(trigger: object, name: str = "poison.trigger") -> None:
    """Refuse what marks no input, since it cannot be called."""
    if not callable(trigger):
        raise RequestError(
            f"{name}={trigger!r} is no trigger: choose one of the group, such as poison/trigger@{name}=square"
        )
