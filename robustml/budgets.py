"""What the numbers of a threat must be: known without torch, so that a command refuses them at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from robustml.errors import RequestError
from robustml.numbers import number

SIDE, PIXELS = "the side of the patch in pixels", "the number of pixels that may change"


def check_threat(settings: Mapping[str, Any]) -> None:
    """Refuse the settings of a built-in threat that none can be made of.

    Raises:
        RequestError: a value is out of its range.
    """
    eps, kind = settings.get("eps", 0), str(settings.get("_target_")).removeprefix("robustml.threats.")
    if kind == "LpBall":
        lp_ball(settings.get("p"), eps, settings.get("bounds", (0, 1)))
    elif kind in ("Patch", "SparseBall"):
        whole_number(eps, SIDE if kind == "Patch" else PIXELS)
    elif kind == "Spatial":
        for name, largest in SPATIAL.items():
            share(settings.get(name, 0), name, largest)


def lp_ball(p: Any, eps: Any, bounds: Any) -> tuple[float, float, tuple[float, float]]:
    """The norm, radius and box of an Lp ball, as plain floats.

    Raises:
        RequestError: another norm; a radius that is negative, not finite, or (p = inf) wider than the box.
    """
    eps = number(eps, "threat eps")
    try:
        norm = number(p.lower().removeprefix("l").replace("\N{INFINITY}", "inf") if isinstance(p, str) else p)
    except RequestError:
        norm = math.nan
    if norm not in (math.inf, 2.0, 1.0):
        many = " (any change of a few pixels is a SparseBall)" if norm == 0 else ""
        raise RequestError(f"threat p={p!r} is not supported; expected 'Linf', 'L2' or 'L1'{many}")
    low, high = box(bounds)
    if not (math.isfinite(eps) and eps >= 0):
        raise RequestError(f"threat eps must be finite and >= 0, got {eps!r}")
    if norm == math.inf and eps > high - low:
        meant = f"; did you mean {eps:g}/255?" if 1 < eps <= 255 else ""
        raise RequestError(f"threat eps={eps:g} is wider than the image range [{low:g}, {high:g}]{meant}")
    return norm, eps, (low, high)


SPATIAL = {"degrees": 180.0, "shift": 1.0, "eps": 1.0}


def share(value: Any, name: str, largest: float) -> float:
    """A limit of a spatial threat.

    Raises:
        RequestError: it is no number from 0 to `largest`.
    """
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise RequestError(f"threat {name} must be a number, got {value!r}") from error
    if not 0 <= found <= largest:
        raise RequestError(f"a spatial threat needs {name} in 0 to {largest:g}, got {found:g}")
    return found


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
