"""Checks that the threats share."""

from __future__ import annotations

from typing import Any

from robustml.errors import RequestError


def box(bounds: Any) -> tuple[float, float]:
    """The smallest and largest value of an input, as plain floats.

    Raises:
        RequestError: `bounds` is not (low, high) with low < high.
    """
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError) as error:
        raise RequestError(f"threat bounds must be two numbers (low, high), got {bounds!r}") from error
    if not low < high:
        raise RequestError(f"threat bounds must be (low, high) with low < high, got {(low, high)}")
    return low, high


def whole_number(eps: Any, meaning: str) -> float:
    """A budget that counts something.

    Args:
        eps: the number.
        meaning: what it counts, for the message.

    Raises:
        RequestError: `eps` is not a whole number >= 0.
    """
    try:
        number = float(eps)
    except (TypeError, ValueError) as error:
        raise RequestError(f"threat eps must be a whole number, {meaning}; got {eps!r}") from error
    if number < 0 or not number.is_integer():
        raise RequestError(f"threat eps must be a whole number >= 0, {meaning}; got {eps!r}")
    return number
