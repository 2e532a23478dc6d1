"""The card of a model: all that was measured of one file of weights, each figure with the file that it came from.

A card speaks of the weights that lie in the run directory now: their digest is computed, and a run whose weights were
changed after it was measured gets no card. Where several evaluations measured the same, the one on the most images
counts, and among equals the lowest figure; of worst cases the one whose 95% interval ends lowest, so that a strong
attack on some images is not outvoted by a weak one on all. An evaluation that was broken off bounds what the whole one
would have found, from above: it is shown as a bound and never becomes the figure. Where such a bound lies below the
figure, the card raises a flag of its own.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from robustml.errors import RequestError, RunFailed
from robustml.files import write_text
from robustml.reporting.card_schema import (
    SCHEMA,
    AttackFigure,
    Card,
    ClassFigure,
    Evidence,
    Figure,
    SourcedCertified,
    SourcedCorruptions,
    SourcedCurve,
    SourcedFlag,
    ThreatFigures,
    budget_of,
    checked_card,
)
from robustml.reporting.evaluations import Source, evaluations_of
from robustml.reporting.formats import eps_text, norm_text, percent
from robustml.reporting.runs import Run, labels, read_config, read_run
from robustml.reporting.schema import AttackResult, ClassResult, Curve, Rate, Threat

__all__ = ["Gathered", "card_lines", "gather", "threat_text", "write_cards"]

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, eq=False)
class Gathered:
    """A card, and what its page shows beyond it.

    Attributes:
        card: the card.
        run: the run directory.
        sources: every results.json that the card draws on, by its name.
    """

    card: Card
    run: Run
    sources: Mapping[str, Source]


def gather(folder: Path) -> Gathered:
    """The card of the model in a run directory, out of its results and those of its evaluations.

    Raises:
        RequestError: the folder is no finished run, or one of its files cannot be read.
        RunFailed: the weights are not those that were measured.
    """
    run = read_run(folder)
    _verify(run)
    sources, left_out = evaluations_of(folder)
    complete = [source for source in sources if source.results.complete]
    # Every image is classified before the first is attacked: clean accuracy is whole in an evaluation broken off too.
    clean = _widest(complete or sources, lambda source: source.results.clean_accuracy)
    threats = _threats(sources, run.results.threat)
    results = run.results
    content = {
        "schema": SCHEMA,
        "kind": "card",
        "experiment": results.experiment,
        "seed": results.seed,
        "data": results.data,
        "model": results.model,
        "threat": results.threat,
        "clean_accuracy": Figure(accuracy=clean.results.clean_accuracy, source=clean.name),
        "worst_class": _worst_class(clean, lambda row: row.clean_accuracy),
        "threats": threats,
        "curves": _curves(complete),
        "corruptions": _corruptions(complete),
        "certified": _certified(complete, results.threat),
        "flags": [*_flags(sources), *(flag for figures in threats for flag in _own_flags(figures))],
        "cost": results.cost,
        "environment": results.environment,
        "evidence": [_evidence(source, folder) for source in sources],
        "left_out": left_out,
    }
    return Gathered(checked_card(content, f"the card of {folder}"), run, {source.name: source for source in sources})


def write_cards(folders: Sequence[Path], out: Path) -> list[Card]:
    """Write card.json and card.html of one run, or a list and a page side by side of several.

    Args:
        folders: run directories.
        out: the folder to write into; made if absent.

    Returns:
        The cards, in the order of the folders. Nothing is written unless all of them can be made.

    Raises:
        RequestError: no run is given, one cannot be read, or `out` is a file.
        RunFailed: the weights of a run are not those that were measured.
    """
    from robustml.reporting.card_page import card_page

    if not folders:
        raise RequestError("a card needs at least one run directory, got none")
    if out.is_file():
        raise RequestError(f"{out} is a file; card.json and card.html go into a folder")
    found = [gather(folder) for folder in folders]
    page = card_page(found, labels([gathered.run for gathered in found]))
    contents = [gathered.card.model_dump(by_alias=True, mode="json") for gathered in found]
    text = json.dumps(contents if len(contents) > 1 else contents[0], indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / "card.json", text + "\n")
    write_text(out / "card.html", page)
    return [gathered.card for gathered in found]


def card_lines(card: Card) -> list[str]:
    """The figures of a card as plain text, a line each."""
    rows = [("clean accuracy", card.clean_accuracy, "")]
    if card.worst_class is not None:
        rows.append(("worst class, clean", card.worst_class, f"class {card.worst_class.name}, "))
    for figures in card.threats:
        at = threat_text(figures.threat)
        rows += [(f"worst case, {at}", figure, "") for figure in (figures.worst_case,) if figure is not None]
        rows += [(f"at most, {at}", figure, "not complete, ") for figure in figures.upper_bounds]
        if figures.rounded_accuracy is not None:
            rows.append((f"rounded to 8 bits, {at}", figures.rounded_accuracy, ""))
        if figures.worst_class is not None:
            rows.append((f"worst class, {at}", figures.worst_class, f"class {figures.worst_class.name}, "))
    for proof in card.certified:
        at = threat_text(Threat(norm=proof.certified.norm, eps=proof.certified.eps))
        figure = Figure(accuracy=proof.certified.certified_accuracy, source=proof.source)
        rows.append((f"certified, {at}", figure, f"{proof.certified.method}, "))
    width = max(len(what) for what, _, _ in rows)
    lines = [f"{what:<{width}}  {_rate_text(figure.accuracy)}  {more}{figure.source}" for what, figure, more in rows]
    if card.corruptions is not None:
        block = card.corruptions.corruptions
        what = f"{'corruptions, mean':<{width}}  {percent(block.mean_accuracy):>6}"
        lines.append(f"{what}  of {len(block.accuracy)} kinds  {card.corruptions.source}")
    lines += [f"flag: {flag.name}{f' ({flag.attack})' if flag.attack else ''}: {flag.message}" for flag in card.flags]
    lines += [f"left out: {line}" for line in card.left_out]
    # A name must not repaint the terminal.
    return ["".join(letter if letter.isprintable() else " " for letter in line) for line in lines]


def threat_text(threat: Threat) -> str:
    """A threat for people: "L∞ eps 8/255"."""
    return f"{norm_text(threat.norm)} eps {eps_text(threat.eps)}"


def _rate_text(rate: Rate) -> str:
    low, high = rate.ci95
    return f"{percent(rate.value):>6} [{percent(low, '')}, {percent(high, '')}]  n {rate.n:,}"


def _verify(run: Run) -> None:
    """Refuse weights that are not those of results.json."""
    weights, expected = run.path / WEIGHTS, run.results.model.sha256
    if not weights.is_file():
        raise RequestError(f"{run.path} has no {WEIGHTS}: a card is about the weights of a finished run")
    if expected is None:
        raise RequestError(f"{run.path}/results.json names no digest of the weights, so that nothing can be verified")
    found = _sha256(weights)
    if found != expected:
        raise RunFailed(
            f"{weights} was changed after the run: its digest is {found}, results.json says {expected}; no card is made"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


Item = TypeVar("Item")


def _widest(candidates: Iterable[Item], rate: Callable[[Item], Rate]) -> Item:
    """The one on the most examples; of equals the lowest."""
    return min(candidates, key=lambda candidate: (-rate(candidate).n, rate(candidate).value or 0.0))


def _highest(figure: Figure) -> float:
    """The end of the 95% interval: what the figure may be at most, but for chance."""
    high = figure.accuracy.ci95[1]
    return 1.0 if high is None else high


def _worst_class(source: Source, rate: Callable[[ClassResult], Rate]) -> ClassFigure | None:
    known = [(value, row) for row in source.results.per_class if (value := rate(row).value) is not None]
    if not known:
        return None
    row = min(known, key=lambda pair: pair[0])[1]
    return ClassFigure(accuracy=rate(row), source=source.name, label=row.label, name=row.name)


def _threats(sources: Sequence[Source], own: Threat) -> list[ThreatFigures]:
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
        worst_class=_worst_class(chosen[0], lambda row: row.robust_accuracy) if chosen else None,
        others=[other for _, other in whole if other is not figure],
        upper_bounds=[bound for member, bound in worst if not member.results.complete],
        max_norm=max(attack.max_norm for attack in attacks),
        attacks=sorted(attacks, key=lambda row: (-row.robust_accuracy.n, row.robust_accuracy.value or 0.0)),
    )


def _curves(sources: Sequence[Source]) -> list[SourcedCurve]:
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


def _corruptions(sources: Sequence[Source]) -> SourcedCorruptions | None:
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


def _certified(sources: Sequence[Source], own: Threat) -> list[SourcedCertified]:
    """For each method and budget the certificates of the most images; the run's own budget and exact methods first."""
    groups: dict[tuple[str, tuple[str, str]], list[SourcedCertified]] = {}
    for source in sources:
        block = source.results.certified
        if block is not None:
            budget = budget_of(Threat(norm=block.norm, eps=block.eps))
            groups.setdefault((block.method, budget), []).append(SourcedCertified(certified=block, source=source.name))
    # Smoothing certifies another classifier than the one on the card: the model with noise around it.
    order = sorted(groups, key=lambda group: (group[1] != budget_of(own), group[0] == "smoothing"))
    return [_widest(groups[group], lambda one: one.certified.certified_accuracy) for group in order]


def _flags(sources: Sequence[Source]) -> list[SourcedFlag]:
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


def _own_flags(figures: ThreatFigures) -> Iterator[SourcedFlag]:
    """A flag for each evaluation that was broken off and found less than the worst case says."""
    for lower in figures.lower:
        assert figures.worst_case is not None
        shown = figures.worst_case.accuracy
        message = (
            f"the worst case at {threat_text(figures.threat)} is {percent(shown.value)} on {shown.n:,} images, but "
            f"{lower.source} found {percent(lower.accuracy.value)} on {lower.accuracy.n:,}: it is not complete; "
            "finish it with robustml evaluate resume=<dir>"
        )
        yield SourcedFlag(name="lower_elsewhere", attack=None, message=message, sources=[lower.source])


def _evidence(source: Source, folder: Path) -> Evidence:
    results = source.results
    config = (folder / source.name).with_name("config.yaml")
    return Evidence(
        name=source.name,
        sha256=_sha256(folder / source.name),
        config_sha256=_sha256(config) if config.is_file() else None,
        command_line=_command_line(results.command, read_config(config).get("overrides")),
        complete=results.complete,
        n=results.clean_accuracy.n,
        threat=results.threat,
        attacks=list(results.attacks),
        environment=results.environment,
    )


def _command_line(command: str, overrides: Any) -> str | None:
    """What to type to repeat it; None where it was continued, so that only config.yaml knows the settings."""
    if not isinstance(overrides, list) or any(str(word).startswith("resume=") for word in overrides):
        return None
    # A card travels: it must not spell out the folders of the machine, and the run may lie elsewhere by then.
    words = ["run=<dir>" if str(word).startswith("run=") else shlex.quote(str(word)) for word in overrides]
    return " ".join(["robustml", command, *words])
