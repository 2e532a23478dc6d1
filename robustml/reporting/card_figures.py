"""Which figures of a run and its evaluations a card takes: the rules that the head of `card.py` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from robustml.reporting.evaluations import Source
from robustml.reporting.verdict import verdict
from robustml.results import (
    AttackFigure,
    AttackResult,
    CardVerdict,
    ClassFigure,
    ClassResult,
    Curve,
    Figure,
    Rate,
    Results,
    SourcedBackdoor,
    SourcedCertified,
    SourcedCorruptions,
    SourcedCurve,
    SourcedFlag,
    Threat,
    ThreatFigures,
    budget_of,
)

Item = TypeVar("Item")


def widest(candidates: Iterable[Item], rate: Callable[[Item], Rate]) -> Item:
    """The one on the most examples; of equals the lowest."""
    return min(candidates, key=lambda candidate: (-rate(candidate).n, rate(candidate).value or 0.0))


def _highest(figure: Figure) -> float:
    """The end of the 95% interval: what the figure may be at most, but for chance."""
    high = figure.accuracy.ci95[1]
    return 1.0 if high is None else high


def worst_class(source: Source, rate: Callable[[ClassResult], Rate]) -> ClassFigure | None:
    """The class of an evaluation that fares worst by `rate`, or None where no class has an example."""
    known = [(value, row) for row in source.results.per_class if (value := rate(row).value) is not None]
    if not known:
        return None
    row = min(known, key=lambda pair: pair[0])[1]
    return ClassFigure(accuracy=rate(row), source=source.name, label=row.label, name=row.name)


def threats_of(sources: Sequence[Source], own: Threat) -> list[ThreatFigures]:
    """The figures of every budget within which somebody attacked; the run's own first."""
    groups: dict[tuple[str, str], list[Source]] = {}
    for source in sources:
        if source.results.attacks:
            groups.setdefault(budget_of(source.results.threat), []).append(source)

    def place(members: list[Source]) -> tuple[bool, bool, str, float]:
        threat = members[0].results.threat
        return budget_of(threat) != budget_of(own), threat.norm != own.norm, threat.norm, threat.eps

    return [_threat_figures(members) for members in sorted(groups.values(), key=place)]


def _threat_figures(members: Sequence[Source]) -> ThreatFigures:
    attacks = [
        AttackFigure(
            attack=name,
            source=member.name,
            complete=member.results.complete,
            **{key: getattr(attack, key) for key in AttackResult.model_fields},
        )
        for member in members
        for name, attack in member.results.attacks.items()
    ]
    worst = [
        (member, Figure(accuracy=member.results.worst_case.robust_accuracy, source=member.name))
        for member in members
        if member.results.worst_case is not None and member.results.worst_case.robust_accuracy.n
    ]
    whole = [(member, figure) for member, figure in worst if member.results.complete]
    chosen = min(whole, key=lambda pair: _highest(pair[1])) if whole else None
    figure = chosen[1] if chosen else None
    rounded = [
        Figure(accuracy=attack.rounded_accuracy, source=member.name)
        for member, _ in whole
        for attack in member.results.attacks.values()
        if attack.rounded_accuracy is not None
    ]
    return ThreatFigures(
        threat=members[0].results.threat,
        worst_case=figure,
        rounded_accuracy=min(rounded, key=_highest) if rounded else None,
        worst_class=worst_class(chosen[0], lambda row: row.robust_accuracy) if chosen else None,
        others=[other for _, other in whole if other is not figure],
        upper_bounds=[bound for member, bound in worst if not member.results.complete],
        max_norm=max(attack.max_norm for attack in attacks),
        attacks=sorted(attacks, key=lambda row: (-row.robust_accuracy.n, row.robust_accuracy.value or 0.0)),
    )


def curves_of(sources: Sequence[Source]) -> list[SourcedCurve]:
    """For each norm and attack the curve on the most images; of equals the one with the most points."""
    found: dict[tuple[str, str], SourcedCurve] = {}

    def size(curve: Curve) -> tuple[int, int]:
        return curve.points[0].robust_accuracy.n, len(curve.points)

    for source in sources:
        curve, norm = source.results.curve, source.results.threat.norm
        if curve is None or not curve.points:
            continue
        known = found.get((norm, curve.attack))
        if known is None or size(curve) > size(known.curve):
            found[norm, curve.attack] = SourcedCurve(norm=norm, curve=curve, source=source.name)
    return list(found.values())


def corruptions_of(sources: Sequence[Source]) -> SourcedCorruptions | None:
    """The most corruptions and severities; of equals those on the most images."""
    found = [
        SourcedCorruptions(corruptions=block, source=source.name)
        for source in sources
        if (block := source.results.corruptions) is not None and block.accuracy
    ]

    def size(one: SourcedCorruptions) -> tuple[int, int]:
        points = [point for points in one.corruptions.accuracy.values() for point in points]
        return len(points), min((point.accuracy.n for point in points), default=0)

    return max(found, key=size) if found else None


def certified_of(sources: Sequence[Source], own: Threat) -> list[SourcedCertified]:
    """For each method and budget the certificates of the most images; the run's own budget and exact methods first."""
    groups: dict[tuple[str, tuple[str, str]], list[SourcedCertified]] = {}
    for source in sources:
        block = source.results.certified
        if block is not None:
            budget = budget_of(Threat(norm=block.norm, eps=block.eps))
            groups.setdefault((block.method, budget), []).append(SourcedCertified(certified=block, source=source.name))
    # Smoothing certifies another classifier than the one on the card: the model with noise around it.
    order = sorted(groups, key=lambda group: (group[1] != budget_of(own), group[0] == "smoothing"))
    return [widest(groups[group], lambda one: one.certified.certified_accuracy) for group in order]


def backdoor_of(sources: Sequence[Source]) -> SourcedBackdoor | None:
    """The backdoor that succeeds on most inputs: what an attacker would use."""
    found = [
        SourcedBackdoor(backdoor=block, source=source.name)
        for source in sources
        if (block := source.results.backdoor) is not None
    ]
    return max(found, key=lambda one: one.backdoor.attack_success_rate.value or 0.0) if found else None


def verdict_of(measured: Sequence[Results]) -> CardVerdict:
    """The verdict over all files."""
    found = verdict(*measured)
    return CardVerdict(level=found.level, word=found.word, sentences=found.sentences)


def flags_of(sources: Sequence[Source]) -> list[SourcedFlag]:
    """Every flag once, with all files that raise it."""
    raised: dict[tuple[str, str | None, str], list[str]] = {}
    for source in sources:
        for flag in source.results.flags:
            names = raised.setdefault((flag.name, flag.attack, flag.message), [])
            if source.name not in names:
                names.append(source.name)
    return [
        SourcedFlag(name=name, attack=attack, message=message, sources=names)
        for (name, attack, message), names in raised.items()
    ]
