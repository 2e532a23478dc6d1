"""How numbers are written in tables, figures and pages."""

from __future__ import annotations

import math
from typing import Any

from robustml.errors import RequestError
from robustml.numbers import eps_text as eps_text
from robustml.numbers import eps_texts as eps_texts
from robustml.numbers import norm_text as norm_text
from robustml.numbers import number
from robustml.results import Rate, Threat

# What stands where there is no number.
NOTHING = "\N{EN DASH}"


def percent(value: float | None, sign: str = "%") -> str:
    """A fraction as a percentage with one decimal, or a dash."""
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.1f}{sign}"


def half_width(rate: Rate) -> float | None:
    """Half of the 95% interval, as a fraction; the interval of Wilson is not quite symmetric about the value."""
    return None if rate.value is None else (rate.ci95[1] - rate.ci95[0]) / 2


def interval_text(rate: Rate) -> str:
    """The 95% interval in words."""
    if rate.value is None:
        return "no test examples"
    return f"95% interval {percent(rate.ci95[0], sign='')} to {percent(rate.ci95[1])}"


def parse_eps(value: Any) -> float | None:
    """A budget as configs write it (0.3, "0.3", "8/255") as a number, or None if it is none."""
    try:
        found = number(value)
    except RequestError:
        return None
    return found if math.isfinite(found) else None


def budget_text(norm: str) -> str:
    """What eps counts, for the label of an axis: the norm and its unit."""
    name = norm_text(norm)
    units = {
        "L∞": "L∞: largest change of a value, of 1",
        "L2": "L2: Euclidean length of the change, values in 0 to 1",
        "L1": "L1: sum of the changes, values in 0 to 1",
        "L0": "L0: number of pixels",
        "patch": "patch: side in pixels",
    }
    return units.get(name, name)


def threat_text(threat: Threat) -> str:
    """A threat for people: "L∞ eps 8/255"."""
    return str(threat)


def seconds_text(seconds: float | None) -> str:
    """A duration in the unit that reads best."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plain(value: Any) -> str:
    """Any value of a parameter or fact in one line: short numbers, grouped digits, no quotes."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return plain(int(value))
        return eps_text(value) if 0 < value < 1 else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(inner) for inner in value)
    return str(value)
