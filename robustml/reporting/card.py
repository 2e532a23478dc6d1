"""The card of a model: all that was measured of one file of weights, each figure with the file that it came from.

A card speaks of the weights that lie in the run directory now: their digest is computed, and a run whose weights were
changed after it was measured gets no card. Where several evaluations measured the same, the one on the most images
counts, and among equals the lowest figure; of worst cases the one whose 95% interval ends lowest, so that a strong
attack on some images is not outvoted by a weak one on all. An evaluation that was broken off bounds what the whole one
would have found, from above: it is shown as a bound and never becomes the figure. Where such a bound lies below the
figure, the card raises a flag of its own.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustml.errors import RequestError, RunFailed
from robustml.files import sha256, write_text
from robustml.reporting.card_figures import (
    backdoor_of,
    certified_of,
    corruptions_of,
    curves_of,
    flags_of,
    threats_of,
    verdict_of,
    widest,
    worst_class,
)
from robustml.reporting.evaluations import Source, evaluations_of
from robustml.reporting.formats import eps_text, norm_text, percent
from robustml.reporting.runs import Run, labels, read_run
from robustml.results import (
    CARD_SCHEMA,
    Card,
    Evidence,
    Figure,
    Rate,
    SourcedFlag,
    Threat,
    ThreatFigures,
    checked_card,
    read_settings_file,
)

__all__ = ["Gathered", "card_lines", "gather", "threat_text", "write_cards", "write_gathered"]

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
    sources, left_out, broken = evaluations_of(folder)
    complete = [source for source in sources if source.results.complete]
    # Every image is classified before the first is attacked: clean accuracy is whole in an evaluation broken off too.
    clean = widest(complete or sources, lambda source: source.results.clean_accuracy)
    threats = threats_of(sources, run.results.threat)
    results = run.results
    content = {
        "schema": CARD_SCHEMA,
        "kind": "card",
        "experiment": results.experiment,
        "seed": results.seed,
        "data": results.data,
        "model": results.model,
        "threat": results.threat,
        "clean_accuracy": Figure(accuracy=clean.results.clean_accuracy, source=clean.name),
        "worst_class": worst_class(clean, lambda row: row.clean_accuracy),
        "threats": threats,
        "curves": curves_of(complete),
        "corruptions": corruptions_of(complete),
        "certified": certified_of(complete, results.threat),
        "backdoor": backdoor_of(sources),
        "verdict": verdict_of([source.results for source in sources]),
        "flags": [*flags_of(sources), *(flag for figures in threats for flag in _own_flags(figures))],
        "cost": results.cost,
        "environment": results.environment,
        "evidence": [_evidence(source, folder) for source in sources],
        "left_out": [*left_out, *broken],
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
    if not folders:
        raise RequestError("a card needs at least one run directory, got none")
    return write_gathered([gather(folder) for folder in folders], out)


def write_gathered(found: Sequence[Gathered], out: Path, left_out: Mapping[str, str] | None = None) -> list[Card]:
    """Write what `write_cards` writes, of cards that are gathered already.

    Args:
        found: at least one.
        out: the folder to write into; made if absent.
        left_out: runs of which no card could be made, and why; the page names them.

    Raises:
        RequestError: `out` is a file.
    """
    from robustml.reporting.card_page import card_page

    if out.is_file():
        raise RequestError(f"{out} is a file; card.json and card.html go into a folder")
    page = card_page(found, labels([gathered.run for gathered in found]), left_out or {})
    contents = [gathered.card.model_dump(by_alias=True, mode="json") for gathered in found]
    text = json.dumps(contents if len(contents) > 1 else contents[0], indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / "card.json", text + "\n")
    write_text(out / "card.html", page)
    return [gathered.card for gathered in found]


def card_lines(card: Card) -> list[str]:
    """The figures of a card as plain text, a line each."""
    rows = []
    if card.backdoor is not None:
        figure = Figure(accuracy=card.backdoor.backdoor.attack_success_rate, source=card.backdoor.source)
        twin = card.backdoor.backdoor.twin
        beside = "" if twin is None else f"clean twin {percent(twin.attack_success_rate.value)}, "
        rows.append(("attack success rate of the backdoor", figure, beside))
    rows.append(("clean accuracy", card.clean_accuracy, ""))
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
    if card.verdict is not None:
        lines.insert(0, f"verdict: {card.verdict.word}: {'; '.join(card.verdict.sentences)}")
    lines += [f"flag: {flag.name}{f' ({flag.attack})' if flag.attack else ''}: {flag.message}" for flag in card.flags]
    lines += [f"left out: {line}" for line in card.left_out]
    return lines


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
    found = sha256(weights)
    if found != expected:
        raise RunFailed(
            f"{weights} was changed after the run: its digest is {found}, results.json says {expected}; no card is made"
        )


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
        sha256=sha256(folder / source.name),
        config_sha256=sha256(config) if config.is_file() else None,
        command_line=_command_line(results.command, read_settings_file(config).get("overrides")),
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
