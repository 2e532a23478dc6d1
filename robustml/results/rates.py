"""Proportions with their intervals, and the checks that show up one which cannot be."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# Rates are counts over n, so that two which differ at all differ by 1/n: far more than rounding in JSON can do.
TOLERANCE = 1e-6
# What value * n may miss a whole number by: somebody may have written four digits.
ROUNDED = 0.05
INTERVAL_TOLERANCE = 2e-3
# Of a normal distribution, 95% lies within so many standard deviations.
_Z = 1.959963984540054

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# No set has so many examples; beyond it, arithmetic in float would no longer be exact.
Count = Annotated[int, Field(ge=0, le=10**15)]
Amount = Annotated[float, Field(ge=0.0)]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Refuse what JSON cannot hold: NaN, infinity and objects."""
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings must be plain values that JSON can hold: {error}") from error
    return settings


# The settings of an attack or a method, as plain values: whatever it has.
Settings = Annotated[dict[str, Any], AfterValidator(_plain)]


class Block(BaseModel):
    """What every block of the schema shares: fixed once made, finite numbers, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Rate(Block):
    """A proportion of `n` examples with its 95% interval; `value` is None exactly when there were none."""

    value: Fraction | None
    n: Count
    ci95: tuple[Fraction, Fraction]

    @model_validator(mode="after")
    def _inside_its_interval(self) -> Rate:
        low, high = self.ci95
        if (self.value is None) != (self.n == 0):
            raise ValueError(f"value must be null exactly when n is 0, got value {self.value} with n {self.n}")
        if low > high:
            raise ValueError(f"ci95 must be [low, high], got [{low}, {high}]")
        if self.value is None:
            return self
        if not low - TOLERANCE <= self.value <= high + TOLERANCE:
            raise ValueError(f"value {self.value} lies outside its ci95 [{low}, {high}]")
        if abs(self.value * self.n - self.count) > ROUNDED:
            raise ValueError(f"value {self.value:g} is no count of {self.n} examples")
        expected = _wilson(self.count, self.n)
        if max(abs(low - expected[0]), abs(high - expected[1])) > INTERVAL_TOLERANCE:
            ends = "[{:.4f}, {:.4f}]".format(*expected)
            raise ValueError(f"ci95 [{low:g}, {high:g}] is not the 95% interval {ends} of {self.count} of {self.n}")
        return self

    @property
    def count(self) -> int:
        """How many of the `n` examples."""
        return round((self.value or 0.0) * self.n)

    def __float__(self) -> float:
        return math.nan if self.value is None else self.value

    def __format__(self, form: str) -> str:
        return format(float(self), form) if form else str(self)

    def __str__(self) -> str:
        if self.value is None:
            return "no examples"
        low, high = self.ci95
        return f"{self.value:.1%} (95% interval {100 * low:.1f} to {100 * high:.1f}, n {self.n:,})"


def at_most(name: str, lower: Rate, bound: str, upper: Rate) -> None:
    """Refuse a rate above the rate that bounds it, and rates over different numbers of examples."""
    if lower.n != upper.n:
        raise ValueError(f"{name} has n {lower.n}, but {bound} has n {upper.n}: they must be of the same examples")
    if lower.value is not None and upper.value is not None and lower.value > upper.value + TOLERANCE:
        raise ValueError(f"{name} has accuracy {lower.value:g}, above {upper.value:g} of {bound}")


def rate(successes: int, n: int) -> Rate:
    """The proportion `successes / n` with its Wilson 95% interval.

    Args:
        successes: how many of the examples, 0 to `n`.
        n: the number of examples; with none, the value is unknown and the interval is all of [0, 1].

    Raises:
        ValueError: if `successes` is negative or above `n`.
    """
    successes, n = int(successes), int(n)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n, got {successes} with n {n}")
    if n == 0:
        return Rate(value=None, n=0, ci95=(0.0, 1.0))
    low, high = _wilson(successes, n)
    value = successes / n
    # At 0 and n the interval ends at the value itself, but for a rounding error.
    return Rate(value=value, n=n, ci95=(max(0.0, min(low, value)), min(1.0, max(high, value))))


def share(which: Any) -> Rate:
    """The proportion that is True of an array or tensor of bools (N,)."""
    return rate(int(which.sum()), len(which))


def _wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% interval of `successes` of `n` examples, at least one.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927, as Newcombe 1998 has it
    (and `scipy.stats.binomtest`, to the bit).
    """
    p = successes / n
    scale = 2 * (n + _Z**2)
    middle = (2 * n * p + _Z**2) / scale
    reach = _Z / scale * math.sqrt(4 * n * p * (1 - p) + _Z**2)
    return 0.0 if successes == 0 else middle - reach, 1.0 if successes == n else middle + reach
