"""What a poison is asked for, refused in one line where it cannot be had: at construction, before any data are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robustml.errors import RequestError, nearest

__all__ = ["check_kind", "check_number", "check_rate", "check_stamp", "check_whole"]


def check_kind(kind: str, known: Sequence[str]) -> None:
    """Refuse an unknown variant.

    Raises:
        RequestError: `kind` is none of `known`.
    """
    if kind not in known:
        raise RequestError(f"poison.kind={kind!r} is unknown; {nearest(str(kind), known)}")


def check_rate(rate: object, name: str = "poison.rate") -> None:
    """Refuse what is no share of a set.

    Raises:
        RequestError: a rate outside [0, 1], or none at all.
    """
    check_number(rate, name, "is the share of the training set that is changed, in [0, 1]", 0, 1)


def check_number(
    value: object, name: str, expected: str, low: float = -math.inf, high: float = math.inf, *, above: bool = False
) -> None:
    """Refuse what is no finite number in a range.

    Args:
        value: whatever the config holds.
        name: of the option.
        expected: what it should be, to follow the name: "is an amplitude in (0, 1]".
        low: the smallest value.
        high: the largest value.
        above: `low` itself is too small.

    Raises:
        RequestError: text, a truth value, NaN, infinity, or a number outside.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if (low < value if above else low <= value) and value <= high:
            return
        hint = _scaled(value) if high == 1 and value > 1 else ""
        raise RequestError(f"{name} {expected}; got {value}{hint}")
    raise RequestError(f"{name} {expected}; got {value!r}")


def check_whole(value: object, name: str, expected: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is no whole number in a range.

    Raises:
        RequestError: it is none, such as 1.5, ``"3"`` or true.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f"{name} {expected}; got {value!r}")


def check_stamp(trigger: object, name: str = "poison.trigger") -> None:
    """Refuse what marks no input.

    Raises:
        RequestError: it cannot be called.
    """
    if not callable(trigger):
        raise RequestError(
            f"{name}={trigger!r} is no trigger: choose one of the group, such as poison/trigger@{name}=square"
        )


def _scaled(value: float) -> str:
    """The hint for who thinks in bytes: values are in [0, 1] everywhere."""
    return f"; did you mean {value:g}/255?" if float(value).is_integer() and value <= 255 else ""
