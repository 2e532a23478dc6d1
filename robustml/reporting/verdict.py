"""What an expert would say first of a model: the figure that was asked for, and how far it may be trusted.

One decision for the page, the table of the terminal, the card, the ranking and the gate. A model with a backdoor is
never fine, however it fares under attack; where nobody attacked, nothing is said of robustness; and no flag is a
verdict on the evaluation alone, not on the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustml.reporting.findings import ORDER, Finding, Level, clean_finding, findings_of
from robustml.reporting.formats import eps_text
from robustml.results import Results

_LEVELS: tuple[Level, ...] = ("fine", "caution", "alarm")
# Below so many examples the 95% interval of a share is up to 20 points wide.
FEW = 100
NOBODY = "nobody attacked: this says nothing about robustness"
PGD_ALONE = "of attacks only PGD with 10 steps was tried, on what the repair left"


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
        for finding in findings_of(results):
            known = found.get(finding.kind)
            if known is None or _gravity(finding) > _gravity(known):
                found[finding.kind] = finding
    if "backdoor" in found:
        found.pop("poison", None)
    doubts = list(dict.fromkeys(doubt for results in counted for doubt in _doubts(results, own)))
    attacked = found.keys() & {"attack", "certified", "extraction"}
    if not attacked and not measured[0].detection and measured[0].clean_accuracy.n:
        repair = measured[0].repair
        doubts.append(NOBODY if repair is None or repair.after.robust_accuracy is None else PGD_ALONE)
    if not found:
        found["clean"] = clean_finding(measured[0])
    return Verdict(tuple(found[kind] for kind in ORDER if kind in found), tuple(doubts))


def unfit(*measured: Results) -> list[str]:
    """Why "no flags" must not be read as a clean bill, although no flag was raised: a line each, or none."""
    found = verdict(*measured)
    lines = [
        finding.sentence
        for finding in found.findings
        if finding.kind == "backdoor" or (finding.kind == "detection" and finding.level == "alarm")
    ]
    return lines + [doubt for doubt in found.doubts if doubt in (NOBODY, PGD_ALONE)]


def _gravity(finding: Finding) -> tuple[int, float]:
    """Graver first; of equals the lower figure, or the higher where it is the attacker's success."""
    value = 0.5 if finding.value is None else finding.value
    return _LEVELS.index(finding.level), value if finding.kind in ("backdoor", "extraction") else -value


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
