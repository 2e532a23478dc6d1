"""Where the figures of a card belong in what others have written about robustness: facts and links, no judgement.

The texts are Article 15 of Regulation (EU) 2024/1689 (the AI Act) and the taxonomy of NIST AI 100-2 E2025 (Vassilev et
al. 2025). A line without a figure says that it was not measured, and by which command it would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from robustml.errors import RequestError, printable
from robustml.reporting.evaluations import Source
from robustml.reporting.formats import percent, threat_text
from robustml.results import Card, Clause, MappedFigure, Mapping, Rate, Threat, read_results

_ASKED = "extractions"
# The names by which our configs and papers call the attacks that see no gradient of the model.
_BLACK_BOX = ("square", "sparse_rs", "spatial", "transfer", "rays", "boundary", "hopskip")
_NO_COMMAND = "robustml has no command for it"
_EVADE, _DETECT = "robustml evaluate run=<dir> evaluation=strong", "robustml detect run=<dir>"
_TRAIN = "robustml train ... poison={}, beside a clean twin"


def mappings_of(card: Card, sources: Sequence[Source], folder: Path) -> list[Mapping]:
    """The two texts, with what the card has for each line of theirs.

    Args:
        card: the card, whose figures are taken.
        sources: every results.json that it draws on.
        folder: the run directory, below which copies of the model by its answers may lie.
    """
    found = _Found(card, sources, folder)
    return [
        Mapping(
            text="EU AI Act, Regulation (EU) 2024/1689, Article 15",
            identifier="CELEX 32024R1689",
            clauses=list(_article_15(found)),
        ),
        Mapping(
            text="NIST AI 100-2 E2025, taxonomy of attacks on predictive AI, and supply chain",
            identifier="doi 10.6028/NIST.AI.100-2e2025",
            clauses=list(_nist(found)),
        ),
    ]


def _article_15(found: _Found) -> Iterable[Clause]:
    yield _clause("15(1), 15(3)", "Accuracy", found.accuracy, "")
    yield _clause(
        "15(4)", "Robustness: errors, faults, inconsistencies", found.corruptions,
        "robustml evaluate run=<dir> evaluation=corruptions",
    )  # fmt: skip
    yield _clause(
        "15(4)", "Robustness: feedback loops of systems that go on learning", [],
        "robustml feedback data.source.train=<file>, for a filter that learns from reports",
    )  # fmt: skip
    yield _clause(
        "15(5)",
        "Cybersecurity: data poisoning",
        [*found.backdoor, *found.detected("records"), *found.signed_data],
        _DETECT,
    )
    yield _clause(
        "15(5)",
        "Cybersecurity: model poisoning, of what it was trained from",
        found.detected("model"),
        _DETECT,
        found.origin,
    )
    yield _clause("15(5)", "Cybersecurity: adversarial examples, model evasion", found.evasion, _EVADE)
    yield _clause(
        "15(5)", "Cybersecurity: confidentiality attacks", found.copies, found.copy_command,
        f"membership inference and reconstruction of records: {_NO_COMMAND}",
    )  # fmt: skip
    yield _clause(
        "15(5)", "Cybersecurity: model flaws", [*found.shortcuts, *found.flags], "robustml shortcuts run=<dir>"
    )


def _nist(found: _Found) -> Iterable[Clause]:
    yield _clause("Evasion", "White-box", found.attacked(black_box=False), _EVADE)
    yield _clause(
        "Evasion", "Black-box, transfer", found.attacked(black_box=True), "robustml evaluate run=<dir> attack=square"
    )
    yield _clause(
        "Evasion",
        "Proved bounds, against evasion",
        found.certified,
        "robustml evaluate run=<dir> evaluation=certified_smoothing",
    )
    yield _clause("Poisoning", "Availability", [], _TRAIN.format("flip"))
    yield _clause("Poisoning", "Targeted", [], _TRAIN.format("gradient_matching"))
    yield _clause(
        "Poisoning", "Backdoor", [*found.backdoor, *found.detected("records"), *found.detected("model")], _DETECT
    )
    yield _clause("Poisoning", "Model poisoning", found.detected("model"), _DETECT)
    yield _clause("Privacy", "Model extraction", found.copies, found.copy_command)
    for name in ("Data reconstruction", "Membership inference", "Property inference"):
        yield _clause("Privacy", name, [], _NO_COMMAND)
    yield _clause("Supply chain", "Weights and data of known origin", found.weights, "", found.origin)


def _clause(clause: str, about: str, measured: Iterable[MappedFigure], otherwise: str, *never: str) -> Clause:
    """A line; `otherwise` would measure it where nothing did, and `never` is what nothing on a card can say."""
    figures = list(measured)
    missing = [*([otherwise] if otherwise and not figures else []), *never]
    return Clause(clause=clause, about=about, measured=figures, not_measured=missing)


class _Found:
    """The figures of a card, in words."""

    origin = "by whom it was signed: robustml model verify run=<dir> trust=<keys>"
    copy_command = "robustml extract victim=<dir> method=copycat budget=1000"

    def __init__(self, card: Card, sources: Sequence[Source], folder: Path) -> None:
        self.card, self.sources, self.folder = card, sources, folder

    @property
    def accuracy(self) -> Iterable[MappedFigure]:
        clean, worst = self.card.clean_accuracy, self.card.worst_class
        yield _figure(f"clean accuracy {_said(clean.accuracy)}", clean.source, "figures")
        if worst is not None:
            yield _figure(f"worst class {worst.name} {_said(worst.accuracy)}", worst.source, "figures")

    @property
    def corruptions(self) -> Iterable[MappedFigure]:
        if (found := self.card.corruptions) is not None:
            kinds = len(found.corruptions.accuracy)
            text = f"{percent(found.corruptions.mean_accuracy)} right, mean over {kinds} common corruptions"
            yield _figure(text, found.source, "corruptions")

    @property
    def evasion(self) -> Iterable[MappedFigure]:
        for figures in self.card.threats:
            at = threat_text(figures.threat)
            if (worst := figures.worst_case) is not None:
                text = f"worst case, {at}: {_said(worst.accuracy)}"
                yield _figure(text, worst.source, "attacks")
            for bound in figures.upper_bounds:
                yield _figure(f"{at}: at most {_said(bound.accuracy)}, not complete", bound.source, "attacks")
        yield from self.certified

    @property
    def certified(self) -> Iterable[MappedFigure]:
        for one in self.card.certified:
            block = one.certified
            at = threat_text(Threat(norm=block.norm, eps=block.eps))
            text = f"certified by {block.method}, {at}: {_said(block.certified_accuracy)}"
            yield _figure(text, one.source, "certified")

    def attacked(self, *, black_box: bool) -> Iterable[MappedFigure]:
        """The attacks of one kind within each budget, each with its lowest figure."""
        for figures in self.card.threats:
            lowest: dict[str, tuple[float, str, Rate]] = {}
            for row in figures.attacks:
                if any(word in row.attack.lower() for word in _BLACK_BOX) == black_box:
                    place = (row.robust_accuracy.value or 0.0, row.source, row.robust_accuracy)
                    lowest[row.attack] = min(lowest.get(row.attack, place), place, key=lambda known: known[0])
            for name, (_, source, rate) in lowest.items():
                yield _figure(f"{name}, {threat_text(figures.threat)}: {_said(rate)}", source, "attacks")

    @property
    def backdoor(self) -> Iterable[MappedFigure]:
        if (found := self.card.backdoor) is not None:
            text = f"backdoor that was planted: attack success rate {_said(found.backdoor.attack_success_rate)}"
            yield _figure(text, found.source, "figures")

    def detected(self, judges: str) -> Iterable[MappedFigure]:
        """What detectors said, the last time that each was run."""
        yield from self._detections(judges, shortcuts=False)

    @property
    def shortcuts(self) -> Iterable[MappedFigure]:
        yield from self._detections("model", shortcuts=True)

    def _detections(self, judges: str, *, shortcuts: bool) -> Iterable[MappedFigure]:
        last = {
            name: (one, source) for source in self.sources for name, one in (source.results.detection or {}).items()
        }
        for name, (one, source) in last.items():
            if one.judges == judges and ("shortcuts" in name) == shortcuts:
                word = "found something" if one.found else "found nothing"
                of = "records" if judges == "records" else "classes"
                text = f"{name.replace('_', ' ')} {word}: {one.flagged:,} of {one.of:,} {of} flagged"
                yield _figure(text, source.name, "files")

    @property
    def copies(self) -> Iterable[MappedFigure]:
        """Copies that were made of the model by asking it, whose results lie below the run."""
        for path in sorted((self.folder / _ASKED).glob("*/results.json")):
            if not path.resolve().is_relative_to(self.folder.resolve()):
                continue
            try:
                found = read_results(path).extraction
            except RequestError:
                continue  # a copy says nothing of the weights
            if found is not None:
                text = f"{found.method}, {found.queries:,} queries: the copy agrees on {_said(found.fidelity)}"
                yield _figure(text, printable(path.relative_to(self.folder).as_posix()), "files")

    @property
    def flags(self) -> Iterable[MappedFigure]:
        for flag in self.card.flags:
            by = f" ({flag.attack})" if flag.attack else ""
            yield _figure(f"flag raised: {flag.name.replace('_', ' ')}{by}", flag.sources[0], "flags")
        if not self.card.flags and self.card.threats:
            yield _figure(
                "no flag was raised by the evaluator's checks of model and attacks", "results.json", "figures"
            )

    @property
    def weights(self) -> Iterable[MappedFigure]:
        digest = self.card.model.sha256 or ""
        yield _figure(f"weights are those that were measured: {digest[:23]}...", "results.json", "files")
        yield from self.signed_data

    @property
    def signed_data(self) -> Iterable[MappedFigure]:
        if (seen := self.card.data.manifest) is not None:
            by = f"signed by {seen.signed_by}" if seen.signed_by else "not signed"
            yield _figure(
                f"data as their manifest {seen.name} says, {by}: root {seen.root[:23]}...", "results.json", "files"
            )


def _figure(text: str, source: str, section: str) -> MappedFigure:
    return MappedFigure.model_validate({"text": text, "source": source, "section": section})


def _said(rate: Rate) -> str:
    if rate.value is None:
        return "no test examples"
    return f"{percent(rate.value)} ({percent(rate.ci95[0], sign='')} to {percent(rate.ci95[1], sign='')}, n {rate.n:,})"
