"""What an expert would say first of a model: the figure that was asked for, and how far it may be trusted.

One decision for the page, the table of the terminal, the card, the ranking and the gate. A model with a backdoor is
never fine, however it fares under attack; where nobody attacked, nothing is said of robustness; and no flag is a
verdict on the evaluation alone, not on the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from robustml.reporting.formats import eps_text, percent, threat_text
from robustml.results import Backdoor, Certified, Corruptions, Detection, ExtractionResults, Rate, Results, Threat

Level = Literal["fine", "caution", "alarm"]
_LEVELS: tuple[Level, ...] = ("fine", "caution", "alarm")
# Below so many examples the 95% interval of a share is up to 20 points wide.
FEW = 100
NOBODY = "nobody attacked: this says nothing about robustness"


@dataclass(frozen=True)
class Finding:
    """One figure that was asked for, and what it means.

    Attributes:
        kind: "backdoor", "detection", "poison", "extraction", "certified", "attack", "corruptions" or "clean".
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


@dataclass(frozen=True)
class Verdict:
    """The findings on one model, the leading one first, and what speaks against the figures themselves."""

    findings: tuple[Finding, ...]
    doubts: tuple[str, ...]

    @property
    def level(self) -> Level:
        """The gravest of the findings; doubts make what is fine a caution."""
        levels = [finding.level for finding in self.findings] + ["caution"] * bool(self.doubts)
        return max(levels, key=_LEVELS.index)

    @property
    def word(self) -> str:
        """The verdict in a word or two: that of the gravest finding, unless only the doubts are grave."""
        gravest = max(self.findings, key=lambda finding: _LEVELS.index(finding.level))
        if gravest.level == self.level:
            return gravest.word
        return "not attacked" if NOBODY in self.doubts else "in doubt"

    @property
    def sentences(self) -> list[str]:
        """Findings and doubts, a sentence each without its full stop."""
        return [finding.sentence for finding in self.findings] + list(self.doubts)

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.word}: {'; '.join(self.sentences)}"


def verdict(*measured: Results) -> Verdict:
    """The verdict on a model.

    Args:
        measured: results of one model: a run alone, or with its evaluations. One at another budget than the run's own,
            as of a sweep, counts where it says something about that one: below it a figure that is lower still, above
            it whatever is not a mere figure under attack.
    """
    own, found = measured[0], dict[str, Finding]()
    counted = [results for results in measured if not _beyond(results, own)]
    for results in counted:
        for finding in _findings(results):
            known = found.get(finding.kind)
            if known is None or _gravity(finding) > _gravity(known):
                found[finding.kind] = finding
    if "backdoor" in found:
        found.pop("poison", None)
    doubts = list(dict.fromkeys(doubt for results in counted for doubt in _doubts(results, own)))
    attacked = found.keys() & {"attack", "certified", "extraction"}
    if not attacked and not measured[0].detection and measured[0].clean_accuracy.n:
        doubts.append(NOBODY)
    if not found:
        found["clean"] = _clean(measured[0])
    return Verdict(tuple(found[kind] for kind in _ORDER if kind in found), tuple(doubts))


def unfit(*measured: Results) -> list[str]:
    """Why "no flags" must not be read as a clean bill, although no flag was raised: a line each, or none."""
    found = verdict(*measured)
    lines = [
        finding.sentence
        for finding in found.findings
        if finding.kind == "backdoor" or (finding.kind == "detection" and finding.level == "alarm")
    ]
    return lines + [doubt for doubt in found.doubts if doubt == NOBODY]


_ORDER = ("backdoor", "detection", "poison", "extraction", "certified", "attack", "corruptions", "clean")


def _gravity(finding: Finding) -> tuple[int, float]:
    """Graver first; of equals the lower figure, or the higher where it is the attacker's success."""
    value = 0.5 if finding.value is None else finding.value
    return _LEVELS.index(finding.level), value if finding.kind in ("backdoor", "extraction") else -value


def _findings(results: Results) -> Iterator[Finding]:
    if results.backdoor is not None:
        # One that the model began with may be the one that still works.
        yield from map(_backdoor, (results.backdoor, *results.backdoor.inherited))
    elif results.data.poison is not None:
        yield Finding("poison", "caution", "poisoned data", "its training data was poisoned on purpose")
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


def _beyond(results: Results, own: Results) -> bool:
    """Whether it is nothing but attacks within a larger budget than the one that the model was judged on."""
    beside = (results.backdoor, results.certified, results.corruptions, results.extraction)
    return _eps_above(results, own) > 0 and not any(beside) and not results.flags


def _eps_above(results: Results, own: Results) -> float:
    """By how much the budget is larger than the run's own; 0 where the two cannot be compared."""
    comparable = bool(own.attacks) and results.threat.norm == own.threat.norm
    return results.threat.eps - own.threat.eps if comparable else 0.0


def _doubts(results: Results, own: Results) -> Iterator[str]:
    """What speaks against the figures of one evaluation."""
    raised = [flag for flag in results.flags if results.complete or flag.name != "stopped_early"]
    if count := len(raised):
        names = ", ".join(dict.fromkeys(flag.name.replace("_", " ") for flag in raised))
        yield f"{count} {'flag' if count == 1 else 'flags'} raised by the evaluator's checks ({names})"
    if not results.complete:
        yield "stopped early: accuracy under attack is an upper bound"
    n = results.clean_accuracy.n
    if 0 < n < FEW:
        yield f"measured on {n} example{'s' if n > 1 else ''} only"
    if results.attacks and _eps_above(results, own) >= 0:
        if results.threat.eps == 0:
            yield "the attacker's budget was 0: nothing could be changed"
        largest = max(attack.max_norm for attack in results.attacks.values())
        if results.threat.norm in ("inf", "2", "1") and largest < 0.5 * results.threat.eps:
            yield f"no attack went beyond {eps_text(largest)}, of {eps_text(results.threat.eps)} that were allowed"
        if all(attack.params.get("steps") == 1 for attack in results.attacks.values()):
            yield "attacked with a single step only"


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


def _clean(results: Results) -> Finding:
    clean = results.clean_accuracy
    if not clean.n:
        return Finding("clean", "caution", "not tested", "there was no test example")
    text = f"{percent(clean.value)} of {clean.n:,} right when nobody attacks"
    return Finding("clean", "caution", "not attacked", text, "Clean accuracy", clean.value, clean)
