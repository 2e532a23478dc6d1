"""One figure that was asked for of a model, and what it means: what `verdict` puts together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from robustml.reporting.formats import percent, threat_text
from robustml.results import (
    Backdoor,
    Certified,
    Corruptions,
    Detection,
    ExtractionResults,
    Rate,
    Repair,
    Results,
    Threat,
)

Level = Literal["fine", "caution", "alarm"]
# The leading one first.
ORDER = ("backdoor", "repair", "detection", "poison", "extraction", "certified", "attack", "corruptions", "clean")


@dataclass(frozen=True)
class Finding:
    """One figure that was asked for, and what it means.

    Attributes:
        kind: what it is a figure of, one of `ORDER`.
        level: how grave it is.
        word: the verdict in a word or two.
        sentence: the same as a sentence, without the full stop.
        name: what the figure is called above a tile.
        value: the figure, a fraction.
        rate: the same with its interval, where it has one.
        beside: what to read it against, in a few words.
        shown: the figure as text, where it is no share.
    """

    kind: str
    level: Level
    word: str
    sentence: str
    name: str = ""
    value: float | None = None
    rate: Rate | None = None
    beside: str = ""
    shown: str = ""


def findings_of(results: Results) -> Iterator[Finding]:
    """What one results.json says, in no order."""
    if results.backdoor is not None:
        # One that the model began with may be the one that still works.
        yield from map(_backdoor, (results.backdoor, *results.backdoor.inherited))
    elif results.data.poison is not None:
        yield Finding("poison", "caution", "poisoned data", "its training data was poisoned on purpose")
    if results.repair is not None and (found := _repair(results.repair)) is not None:
        yield found
    if results.detection:
        yield _detection(results.detection)
    if results.extraction is not None:
        yield _extraction(results.extraction)
    if results.certified is not None:
        yield _certified(results.certified)
    attacked = _attacked(results)
    if attacked is not None:
        yield attacked
    if results.corruptions is not None:
        yield _corruptions(results.corruptions, results.clean_accuracy)


def _backdoor(block: Backdoor) -> Finding:
    success, twin = block.attack_success_rate, block.twin
    by_itself, beside = 0.0, ""
    text = f"the backdoor gets its label on {percent(success.value)} of {success.n:,} inputs of other classes"
    if twin is not None:
        by_itself = twin.attack_success_rate.value or 0.0
        beside = f"clean twin {percent(twin.attack_success_rate.value)}"
        text += f" (a clean twin: {percent(twin.attack_success_rate.value)})"
    level: Level = "caution"
    word = "backdoor planted, faint"
    if success.value is None:
        word, text = "backdoor not measured", "a backdoor was planted, but there was no input to try it on"
    elif success.value >= 0.5 or success.value - by_itself >= 0.2:
        level, word = "alarm", "backdoored"
    return Finding("backdoor", level, word, text, "Attack success rate of the backdoor", success.value, success, beside)


def _repair(block: Repair) -> Finding | None:
    """Whether the backdoor can be called back; None where nobody tried."""
    again, twin = block.reactivated_attack_success_rate, block.twin_reactivated_attack_success_rate
    if again is None or again.value is None:
        return None
    # Ten records plant something in a clean model, too: without a twin only a large success says that it comes back.
    back = again.value >= 0.5 if twin is None or twin.value is None else again.value - twin.value >= 0.2
    text = f"{block.reactivation_records} poisoned records bring the backdoor {'back ' if back else ''}to "
    text += f"{percent(again.value)}" + ("" if twin is None else f" (a repaired clean twin: {percent(twin.value)})")
    beside = "" if twin is None else f"repaired clean twin {percent(twin.value)}"
    level: Level = "alarm" if back else "caution"
    word = "backdoor hidden, not removed" if back else "backdoor not called back"
    return Finding("repair", level, word, text, "Attack success, called back", again.value, again, beside)


def _detection(detection: Mapping[str, Detection]) -> Finding:
    """How many detectors say that something is there."""
    found, count = [name for name, each in detection.items() if each.found], len(detection)
    text = f"{len(found)} of {count} detectors found something" + (f": {', '.join(found)}" if found else "")
    false = [name for name, each in detection.items() if each.twin is not None and each.twin.found]
    if false:
        text += f"; in the clean twin, too, so that it may be a false alarm: {', '.join(false)}"
    trusted = [name for name in found if name not in false]
    level: Level = "alarm" if trusted else "caution"
    word = "poison found" if trusted else "perhaps a false alarm" if found else "nothing found"
    beside = f"of {count}; records or model under suspicion" if found else f"{count} looked"
    return Finding(
        "detection", level, word, text, "Detectors that found something", beside=beside, shown=f"{len(found)}"
    )


def _extraction(block: ExtractionResults) -> Finding:
    fidelity, constant = block.fidelity, block.baseline_fidelity
    base = constant.value or 0.0
    gained = ((fidelity.value or 0.0) - base) / (1 - base) if base < 1 else 0.0
    level: Level = "alarm" if gained >= 0.5 else "caution"
    word = "copied" if level == "alarm" else "partly copied" if gained >= 0.1 else "hardly copied"
    beside = f"one constant label {percent(base)}"
    text = f"a copy made of {block.queries:,} queries gives the victim's label on {percent(fidelity.value)} of "
    text += f"{fidelity.n:,} test inputs (one constant label: {percent(base)})"
    return Finding("extraction", level, word, text, "Fidelity of the copy", fidelity.value, fidelity, beside)


def _certified(block: Certified) -> Finding:
    share, accuracy = block.certified_accuracy, block.accuracy
    whose = " of the smoothed classifier" if block.method == "smoothing" else ""
    at = threat_text(Threat(norm=block.norm, eps=block.eps))
    text = f"{percent(share.value)}{whose} certified within {at} ({percent(accuracy.value)} right without an attack"
    found = block.empirical_accuracy
    text += ")" if found is None else f", {percent(found.value)} under attack)"
    level: Level = "fine" if (share.value or 0.0) > 0.5 * (accuracy.value or 0.0) else "caution"
    word = "certified for the most part" if level == "fine" else "certified in part" if share.value else "not certified"
    if block.contradicted:
        level, word = "alarm", "certificates disproved"
        text += f", and attacks disproved {block.contradicted:,} certificates"
    beside = "" if found is None else f"{percent(found.value)} under attack"
    return Finding("certified", level, word, text, f"Certified, {at}", share.value, share, beside)


def _attacked(results: Results) -> Finding | None:
    """What is left under the worst attack; None where nobody attacked."""
    rates = [attack.robust_accuracy for attack in results.attacks.values() if attack.robust_accuracy.value is not None]
    if not rates:
        return None
    # A file without a worst case still has its lowest attack, which bounds it.
    left, count = min(rates, key=lambda rate: rate.value or 0.0), len(rates)
    if results.worst_case is not None:
        left, count = results.worst_case.robust_accuracy, len(results.worst_case.attacks)
    clean, value = results.clean_accuracy.value or 0.0, left.value or 0.0
    at = threat_text(results.threat)
    text = f"{percent(left.value)} of {left.n:,} right under the worst of {count} "
    text += f"{'attack' if count == 1 else 'attacks'} within {at} ({percent(clean)} when nobody attacks)"
    guessing = 1 / len(results.per_class) if len(results.per_class) > 1 else 0.0
    level: Level
    if value <= guessing or value < 0.25 * clean:
        level, word = "alarm", "not robust"
    elif value < 0.5 * clean:
        level, word = "caution", "weak under attack"
    else:
        level, word = "fine", "withstands what was tried"
    return Finding("attack", level, word, text, "Accuracy under attack, worst case", left.value, left)


def _corruptions(block: Corruptions, clean: Rate) -> Finding:
    kinds, mean = len(block.accuracy), block.mean_accuracy
    level: Level = "fine" if mean >= 0.5 * (clean.value or 0.0) else "caution"
    text = f"{percent(mean)} right on average over {kinds} common {'corruption' if kinds == 1 else 'corruptions'} "
    text += f"({percent(clean.value)} without)"
    word = "measured under corruptions" if level == "fine" else "weak under corruptions"
    beside = f"{kinds} {'kind' if kinds == 1 else 'kinds'}, clean {percent(clean.value)}"
    return Finding("corruptions", level, word, text, "Accuracy under corruptions, mean", mean, beside=beside)


def clean_finding(results: Results) -> Finding:
    """Clean accuracy, where nothing else was measured."""
    clean = results.clean_accuracy
    if not clean.n:
        return Finding("clean", "caution", "not tested", "there was no test example")
    text = f"{percent(clean.value)} of {clean.n:,} right when nobody attacks"
    return Finding("clean", "caution", "not attacked", text, "Clean accuracy", clean.value, clean)
