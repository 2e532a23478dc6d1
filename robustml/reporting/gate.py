"""A release gate: conditions on the figures of finished runs, such as ``robust_accuracy@8/255>=0.45``.

A gate is there to say no, so every doubt counts against the run. A condition holds where *every* figure that it speaks
of meets it: with several evaluations of one model, the lowest counts for ``>=`` and the highest for ``<=``, and its
source is named. A figure that is missing meets nothing. The figures of an evaluation that was broken off
(``"complete": false``) only bound what the whole one would have found, from above: they can fail a ``>=``, never meet
it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from robustml.errors import RequestError, nearest
from robustml.reporting.evaluations import Source
from robustml.reporting.formats import norm_text, parse_eps
from robustml.results import Certified, Rate, Results

# What a condition may speak of, and whether it takes a budget (@eps) and the name of an attack (:attack).
FIGURES: Mapping[str, tuple[bool, bool]] = {
    "clean_accuracy": (False, False),
    "robust_accuracy": (True, True),
    "worst_class_accuracy": (False, False),
    "worst_class_robust_accuracy": (True, False),
    "certified_accuracy": (True, False),
    "corruption_accuracy": (False, False),
    "attack_success_rate": (False, False),
}
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*(\w+)((?:\s*[@:]\s*[^<>=@:\s]+)*)\s*(>=|<=|==|>|<)\s*([^<>=\s]+)\s*")
_PARTS = re.compile(r"([@:])\s*([^<>=@:\s]+)")


@dataclass(frozen=True)
class Condition:
    """One figure, the budget and attack that it is asked for, and what it must be.

    Attributes:
        figure: a name of `FIGURES`.
        comparison: a name of `OPERATORS`.
        bound: in [0, 1].
        eps: None for the threat of the run itself.
        attack: None for the worst case.
    """

    figure: str
    comparison: str
    bound: float
    eps: float | None = None
    attack: str | None = None

    def __str__(self) -> str:
        """As it was understood: a budget is written as the number that it is."""
        eps = "" if self.eps is None else f"@{self.eps:.6g}"
        attack = "" if self.attack is None else f":{self.attack}"
        return f"{self.figure}{eps}{attack}{self.comparison}{self.bound:g}"

    @property
    def wants_more(self) -> bool:
        """Whether a lower figure is the worse one."""
        return self.comparison in (">=", ">")


@dataclass(frozen=True)
class Judgement:
    """Whether a condition holds, the figure that decided it (None where there was none), and where that is from."""

    condition: Condition
    passed: bool
    value: float | None
    reason: str

    def __str__(self) -> str:
        """One line."""
        value = "missing" if self.value is None else f"{self.value:.4g}"
        return f"{'pass' if self.passed else 'FAIL'} {self.condition} {value} ({self.reason})"


@dataclass(frozen=True)
class _Found:
    value: float
    low: float
    high: float
    source: str
    complete: bool

    def compared(self, condition: Condition, lower_bound: bool) -> float:
        """The number that is held against the bound: at worst, within the 95% interval, where that is asked for."""
        if not lower_bound or condition.comparison == "==":
            return self.value
        return self.low if condition.wants_more else self.high


def parse_condition(text: str) -> Condition:
    """Read ``<figure>[@<eps>][:<attack>] <op> <number>``; numbers may be fractions such as 8/255.

    Raises:
        RequestError: it is not of that form, or names an unknown figure; says what comes nearest.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise RequestError(
            f"cannot read the condition {text!r}: expected <figure>[@<eps>][:<attack>] and one of "
            f"{' '.join(OPERATORS)} and a number, such as 'robust_accuracy@8/255:pgd>=0.45'"
        )
    figure, qualifiers, comparison, number = match.groups()
    if figure not in FIGURES:
        raise RequestError(f"there is no figure {figure!r} to set a condition on; {nearest(figure, FIGURES)}")
    bound = parse_eps(number)
    if bound is None or not 0 <= bound <= 1:
        meant = f"; did you mean {bound / 100:g}?" if bound is not None and 1 < bound <= 100 else ""
        raise RequestError(f"{text!r}: expected a share in [0, 1] after {comparison}, got {number!r}{meant}")
    takes_eps, takes_attack = FIGURES[figure]
    eps = attack = None
    for sign, value in _PARTS.findall(qualifiers):
        if (sign == "@" and (not takes_eps or eps is not None)) or (sign == ":" and (not takes_attack or attack)):
            raise RequestError(f"{text!r}: {figure} takes {_taken(takes_eps, takes_attack)}")
        if sign == ":":
            attack = value
        else:
            eps = parse_eps(value)
            if eps is None or eps < 0:
                raise RequestError(f"{text!r}: expected a budget such as 8/255 after @, got {value!r}")
    return Condition(figure, comparison, bound, eps, attack)


def _taken(eps: bool, attack: bool) -> str:
    taken = ["one @<eps>"] * eps + ["one :<attack>"] * attack
    return " and ".join(taken) or "neither @<eps> nor :<attack>"


def judge(condition: Condition, sources: Sequence[Source], *, lower_bound: bool = False) -> Judgement:
    """Hold a condition against every figure that it speaks of.

    Args:
        condition: without a budget, it speaks of figures at the threat of the first source; with one, of figures at
            that budget (to one in 10^9) in the same norm: the evaluation's own, else a point of its curve.
        sources: results of one model.
        lower_bound: compare the end of the 95% interval that is worse for the run, not the value.
    """
    threat = sources[0].results.threat
    eps = threat.eps if condition.eps is None else condition.eps
    found = [
        figure
        for source in sources
        if source.results.threat.norm == threat.norm or not FIGURES[condition.figure][0]
        for figure in _figures(condition, eps, source)
    ]
    compare = OPERATORS[condition.comparison]
    decisive = [
        figure
        for figure in found
        # What a broken-off evaluation has not looked at can only lower its figures.
        if figure.complete
        or condition.comparison in ("<=", "<")
        or not compare(figure.compared(condition, lower_bound), condition.bound)
    ]
    if not decisive:
        at = f" at {norm_text(threat.norm)} eps {eps:.6g}" if FIGURES[condition.figure][0] else ""
        reason = "only of evaluations that are not complete" if found else f"no such figure{at} in {_names(sources)}"
        return Judgement(condition, False, None, reason)
    failing = [figure for figure in decisive if not compare(figure.compared(condition, lower_bound), condition.bound)]

    def badness(figure: _Found) -> float:
        value = figure.compared(condition, lower_bound)
        if condition.comparison == "==":
            return abs(value - condition.bound)
        return -value if condition.wants_more else value

    worst = max(failing or decisive, key=badness)
    bound = f"95% bound {worst.compared(condition, True):.4g}, " if lower_bound else ""
    return Judgement(condition, not failing, worst.value, bound + worst.source)


def _names(sources: Sequence[Source]) -> str:
    names = [source.name for source in sources]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _figures(condition: Condition, eps: float, source: Source) -> Iterator[_Found]:
    """What one results.json says of a condition."""
    results = source.results
    for rate, what in _rates(condition, eps, results):
        if rate is not None and rate.value is not None:
            yield _Found(rate.value, *rate.ci95, f"{what}n {rate.n}, {source.name}", results.complete)
    if condition.figure == "corruption_accuracy" and results.corruptions is not None:
        points = [point.accuracy for points in results.corruptions.accuracy.values() for point in points]
        # The mean of the ends lies beyond the end of the mean's own interval.
        low, high = (sum(point.ci95[end] for point in points) / len(points) for end in (0, 1))
        what = f"mean over corruptions, {source.name}"
        yield _Found(results.corruptions.mean_accuracy, low, high, what, results.complete)


def _rates(condition: Condition, eps: float, results: Results) -> Iterator[tuple[Rate | None, str]]:
    figure, attack = condition.figure, condition.attack
    # Without an attack the worst case is the clean accuracy, which says nothing of robustness.
    attacked = _same(results.threat.eps, eps) and bool(results.attacks)
    if figure == "clean_accuracy":
        yield results.clean_accuracy, ""
    elif figure == "robust_accuracy" and attacked:
        if attack is None and results.worst_case is not None:
            yield results.worst_case.robust_accuracy, f"worst case of {', '.join(results.worst_case.attacks)}, "
        elif attack in results.attacks:
            yield results.attacks[attack].robust_accuracy, f"{attack}, "
    elif figure == "robust_accuracy" and (curve := results.curve) is not None and attack in (None, curve.attack):
        for point in curve.points:
            if _same(point.eps, eps):
                yield point.robust_accuracy, f"curve of {curve.attack}, "
    elif figure == "worst_class_accuracy":
        yield _worst_class({row.name: row.clean_accuracy for row in results.per_class})
    elif figure == "worst_class_robust_accuracy" and attacked:
        yield _worst_class({row.name: row.robust_accuracy for row in results.per_class})
    elif figure == "certified_accuracy" and results.certified is not None:
        yield from _certified(eps, results.certified, results.threat.norm)
    elif figure == "attack_success_rate" and results.backdoor is not None:
        yield results.backdoor.attack_success_rate, "backdoor, "


def _worst_class(rates: Mapping[str, Rate]) -> tuple[Rate | None, str]:
    known = {name: rate.value for name, rate in rates.items() if rate.value is not None}
    if not known:
        return None, ""
    name = min(known, key=lambda name: known[name])
    return rates[name], f"class {name}, "


def _certified(eps: float, block: Certified, norm: str) -> Iterator[tuple[Rate, str]]:
    if block.norm != norm:
        return
    if _same(block.eps, eps):
        yield block.certified_accuracy, f"{block.method}, "
        return
    for point in block.radii:
        if _same(point.radius, eps):
            yield point.certified_accuracy, f"{block.method}, radius {point.radius:.6g}, "


def _same(eps: float, other: float) -> bool:
    return math.isclose(eps, other, rel_tol=1e-9)
