"""The card of a model: all that was measured of one file of weights, each figure with the file that it came from.

A card speaks of the weights that lie in the run directory now: their digest is computed, and a run whose weights were
changed after it was measured gets no card. Where several evaluations measured the same, the one on the most images
counts, and among equals the lowest figure; of worst cases the one whose 95% interval ends lowest, so that a strong
attack on some images is not outvoted by a weak one on all. An evaluation that was broken off bounds what the whole one
would have found, from above: it is shown as a bound and never becomes the figure. Where such a bound lies below the
figure, the card raises a flag of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustml.errors import RequestError, RunFailed
from robustml.files import sha256
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
from robustml.reporting.card_mappings import mappings_of
from robustml.reporting.evaluations import Source, evaluations_of
from robustml.reporting.formats import percent, threat_text
from robustml.reporting.runs import Run, read_run
from robustml.results import (
    CARD_SCHEMA,
    Card,
    Evidence,
    Figure,
    SourcedFlag,
    ThreatFigures,
    checked,
    read_settings_file,
)

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
    card = checked(Card, content, f"the card of {folder}")
    card = card.model_copy(update={"mappings": mappings_of(card, sources, folder)})
    return Gathered(card, run, {source.name: source for source in sources})


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
