"""The tables of one card: every figure with its file, the attacks within a budget, and the files themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustml.reporting.formats import norm_text, percent, plain, seconds_text, threat_text
from robustml.reporting.tables.cells import Cell, Content, Row, Table, cell_of
from robustml.reporting.tables.comparison import Entry, distinct, notes_of_flags
from robustml.reporting.tables.run import beyond, chosen
from robustml.reporting.tables.text import table_text, wrapped
from robustml.results import Card, ClassFigure, Figure, Rate, Threat, ThreatFigures


def figure_table(card: Card) -> Table:
    """Every figure of the card, with the number of its file."""
    numbers = {evidence.name: str(place) for place, evidence in enumerate(card.evidence, start=1)}
    rows: list[Row] = []

    def add(what: str, rate: Rate, source: str, more: str = "", clean: bool = False) -> None:
        rows.append([what, cell_of(rate, more=more, clean=clean), f"{rate.n:,}", numbers[source]])

    def figure(what: str, found: Figure | None, clean: bool = False) -> None:
        if found is not None:
            more = f"class {found.name}" if isinstance(found, ClassFigure) else ""
            add(what, found.accuracy, found.source, more, clean)

    if card.backdoor is not None:
        block = card.backdoor.backdoor
        twin = "" if block.twin is None else f"clean twin {percent(block.twin.attack_success_rate.value)}"
        add("attack success rate of the backdoor", block.attack_success_rate, card.backdoor.source, twin)
    figure("clean accuracy", card.clean_accuracy, clean=True)
    figure("worst class, clean", card.worst_class, clean=True)
    for figures in card.threats:
        at = threat_text(figures.threat)
        worst = None if figures.worst_case is None else figures.worst_case.accuracy
        rounded = figures.rounded_accuracy
        also = ", also rounded to 8 bits" if rounded is not None and rounded.accuracy == worst else ""
        figure(f"worst case, {at}{also}", figures.worst_case)
        for other in figures.others:
            if other.accuracy != worst:
                figure(f"{at}, another evaluation", other)
        for bound in figures.upper_bounds:
            figure(f"at most, {at}: not complete", bound)
        if figures.rounded_accuracy is not None and figures.rounded_accuracy.accuracy != worst:
            figure(f"rounded to 8 bits, {at}", figures.rounded_accuracy)
        figure(f"worst class, {at}", figures.worst_class)
    for proof in card.certified:
        at = threat_text(Threat(norm=proof.certified.norm, eps=proof.certified.eps))
        add(f"certified, {at}", proof.certified.certified_accuracy, proof.source, proof.certified.method)
    if card.corruptions is not None:
        corrupted = card.corruptions.corruptions
        mean = Cell(percent(corrupted.mean_accuracy), more=f"{len(corrupted.accuracy)} kinds")
        rows.append(["corruptions, mean", mean, "", numbers[card.corruptions.source]])
    return Table(["figure", "share, 95% interval", "n", "file"], rows)


def threat_table(card: Card, figures: ThreatFigures) -> Table:
    """Every attack of every evaluation within a budget: those on most images first, the strongest among them."""
    numbers = {evidence.name: str(place) for place, evidence in enumerate(card.evidence, start=1)}
    rows: list[list[Cell]] = []
    for row in figures.attacks:
        cells = [
            Cell(row.attack, marks=() if row.complete else ("upper bound: not complete",)),
            cell_of(row.robust_accuracy),
            Cell(f"{row.robust_accuracy.n:,}"),
            cell_of(row.rounded_accuracy),
            Cell(f"{row.max_norm:.4g}", marks=beyond(row.max_norm, figures.threat.eps)),
            Cell(seconds_text(row.seconds)),
            Cell(numbers[row.source]),
        ]
        # The same attack with the same outcome, from two files, is said once.
        same = next((place for place, known in enumerate(rows) if known[:5] == cells[:5]), None)
        if same is None:
            rows.append(cells)
        else:
            rows[same][6] = Cell(f"{rows[same][6].text}, {numbers[row.source]}")
    change = f"largest change ({norm_text(figures.threat.norm)})"
    headings = ["attack", "robust accuracy, 95% interval", "n", "rounded to 8 bits", change, "time", "file"]
    note = f"Largest change that any attack made: {figures.max_norm:.4g}, allowed {figures.threat.eps:.4g}."
    return Table(headings, rows, note=note)


def settings_table(card: Card, figures: ThreatFigures) -> Table:
    """The settings of the same attacks."""
    numbers = {evidence.name: str(place) for place, evidence in enumerate(card.evidence, start=1)}
    rows: list[Row] = [[row.attack, numbers[row.source], Cell("", chips=chosen(row.params))] for row in figures.attacks]
    return Table(["attack", "file", "settings"], rows, words=frozenset({"settings"}))


def evidence_table(card: Card, links: Mapping[str, str]) -> Table:
    """The files that the figures are from, numbered as other tables refer to them, with digests and their pages."""
    rows: list[Row] = []
    for place, evidence in enumerate(card.evidence, start=1):
        digests = (evidence.sha256, f"config.yaml {evidence.config_sha256 or 'missing'}")
        attacks = ", ".join(evidence.attacks) or "no attack"
        state = "" if evidence.complete else ", not complete"
        file = Cell(evidence.name, digests=digests, link=links[evidence.name])
        rows.append([file, str(place), f"{attacks}{state}", f"{evidence.n:,}"])
    return Table(["file, and SHA-256 digests", "no.", "attacks", "n"], rows, words=frozenset({"attacks"}))


def card_text(card: Card, width: int | None = None) -> str:
    """The verdict, the figures and the flags of a card for the terminal."""
    lines = [f"verdict: {card.verdict.word}: {'; '.join(card.verdict.sentences)}"] if card.verdict is not None else []
    files = [f"file {place}: {evidence.name}" for place, evidence in enumerate(card.evidence, start=1)]
    open_ = [
        f"{line.about[:1].lower()}{line.about[1:]}"
        for one in card.mappings[:1]
        for line in one.clauses
        if not line.measured
    ]
    missing = [f"not measured, of Article 15 of the EU AI Act: {'; '.join(open_)}"] if open_ else []
    after = [*files, *notes_of_flags(card.flags), *(f"left out: {line}" for line in card.left_out), *missing]
    parts = (wrapped(lines, width), table_text(figure_table(card), width), wrapped(after, width))
    return "\n".join(filter(None, parts))


def entries_of_cards(cards: Sequence[Card], names: Sequence[str]) -> list[Entry]:
    """Each card with its figures within every budget that any of them was attacked within."""
    threats = distinct([figures.threat for card in cards for figures in card.threats])
    proofs = distinct([(one.certified.method, Threat(norm=one.certified.norm, eps=one.certified.eps))
                       for card in cards for one in card.certified])  # fmt: skip
    return [_card_entry(card, name, threats, proofs) for card, name in zip(cards, names, strict=True)]


def _card_entry(card: Card, name: str, threats: Sequence[Threat], proofs: Sequence[tuple[str, Threat]]) -> Entry:
    figures: dict[str, Content] = {}
    if card.backdoor is not None:
        figures["backdoor"] = _counted(card.backdoor.backdoor.attack_success_rate)
    figures["clean"] = _figure(card.clean_accuracy)
    figures["worst class, clean"] = _figure(card.worst_class)
    for threat in threats:
        at, found = threat_text(threat), card.within(threat)
        figures[f"worst case, {at}"] = None if found is None else _figure(found.worst_case)
        figures[f"rounded to 8 bits, {at}"] = None if found is None else _figure(found.rounded_accuracy)
        figures[f"worst class, {at}"] = None if found is None else _figure(found.worst_class)
        figures[f"largest change, {at}"] = None if found is None else f"{found.max_norm:.4g}"
    for method, threat in proofs:
        blocks = (one.certified for one in card.certified)
        wanted = (method, threat.norm, threat.eps)
        rates = [one.certified_accuracy for one in blocks if (one.method, one.norm, one.eps) == wanted]
        figures[f"certified by {method}, {threat_text(threat)}"] = _counted(rates[0]) if rates else None
    if card.corruptions is not None:
        block = card.corruptions.corruptions
        kinds = f"{len(block.accuracy)} kinds"
        figures["corruptions, mean"] = Cell(percent(block.mean_accuracy), share=block.mean_accuracy, more=kinds)
    counts: dict[str, Content] = {
        "flags": str(len(card.flags) or "none"),
        "files of results": str(len(card.evidence)),
        "model": card.model.name,
        "parameters": plain(card.model.parameters),
        "data": card.data.name,
        "training time": seconds_text(card.cost.train_seconds),
        "weights": (card.model.sha256 or "").removeprefix("sha256:")[:12],
    }
    found_word = Cell() if card.verdict is None else Cell(card.verdict.word, level=card.verdict.level)
    return Entry(name, found_word, {}, figures, counts)


def _figure(figure: Figure | None) -> Cell | None:
    if figure is None:
        return None
    return _counted(figure.accuracy, f"class {figure.name}, " if isinstance(figure, ClassFigure) else "")


def _counted(rate: Rate, before: str = "") -> Cell:
    return cell_of(rate, more=f"{before}n {rate.n:,}")
