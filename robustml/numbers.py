"""Numbers as people write them: 0.3, "0.3" and "8/255"."""

from __future__ import annotations

from typing import Any

from robustml.errors import RequestError


def number(value: Any, what: str = "") -> float:
    """A number, or a fraction such as ``8/255``, as a float.

    Args:
        value: the number.
        what: whose it is, for the message.

    Raises:
        RequestError: it is neither.
    """
    try:
        if not isinstance(value, str):
            if isinstance(value, bool):
                raise ValueError("a truth value")
            return float(value)
        numerator, _, denominator = value.partition("/")
        return float(numerator) / float(denominator or 1)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        start = f"{what}: " if what else ""
        raise RequestError(f"{start}expected a number or a fraction such as 8/255, got {value!r}") from error
