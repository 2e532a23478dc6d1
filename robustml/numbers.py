"""Numbers as people write them, read and written: 0.3, "0.3" and "8/255"."""

from __future__ import annotations

from collections.abc import Sequence
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


def _steps(eps: float) -> int | None:
    """The k of k/255, up to 64, or None."""
    k = round(eps * 255)
    # 1e-4 of a step: files may hold 0.0313725.
    return k if k <= 64 and abs(eps * 255 - k) < 1e-3 else None


def eps_texts(values: Sequence[float]) -> list[str]:
    """Budgets written alike: all as k/255 where all are such multiples up to 64/255, else all as decimals."""
    steps = [_steps(value) for value in values]
    # 0.2 is 51/255 too; nobody writes it so.
    round_decimals = all(abs(value - round(value, 2)) < 1e-9 for value in values)
    if None in steps or round_decimals:
        return [f"{value:.3g}" for value in values]
    return [f"{k}/255" if k else "0" for k in steps]


def eps_text(eps: float) -> str:
    """One budget: "8/255" or "0.3"."""
    return eps_texts([eps])[0]


def norm_text(norm: str) -> str:
    """The short name of a norm for people: "L∞", "L2"; other threats (patches) keep their own."""
    if norm.lower() in ("inf", "linf", "infinity"):
        return "L∞"
    return f"L{norm}" if norm.replace(".", "").isdigit() else norm
