"""Several cards side by side: the table of their figures, and the bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TypeVar

from robustml.reporting.card import threat_text
from robustml.reporting.formats import NOTHING, percent, plain, seconds_text
from robustml.reporting.page import figure
from robustml.reporting.plots import accuracy_bars
from robustml.results import Card, ClassFigure, Figure, Rate, Threat, ThreatFigures

__all__ = ["comparison_bars", "comparison_table", "distinct"]

Item = TypeVar("Item")


def comparison_table(cards: Sequence[Card], names: Sequence[str]) -> str:
    """Figures in rows, models in columns; the best of a row is bold."""
    # Of other data, no figure is better or worse.
    alike = len({card.data.fingerprint or card.data.name for card in cards}) == 1
    rows: list[str] = []

    def add(what: str, pick: Callable[[Card], Figure | None]) -> None:
        found = [pick(card) for card in cards]
        values = [one.accuracy.value if one is not None else None for one in found]
        cells = [
            _cell(best, one.accuracy, f"class {one.name}, " if isinstance(one, ClassFigure) else "")
            if one is not None
            else f'<td class="number">{NOTHING}</td>'
            for one, best in zip(found, _bests(values, alike), strict=True)
        ]
        if any(found):
            rows.append(_row(what, cells))

    verdicts = [NOTHING if card.verdict is None else card.verdict.word for card in cards]
    rows.append(_text_row("verdict", verdicts))
    planted = [card.backdoor.backdoor.attack_success_rate if card.backdoor else None for card in cards]
    if any(planted):
        # Nobody's success is the best of its row.
        cells = [f'<td class="number">{NOTHING}</td>' if rate is None else _cell(False, rate) for rate in planted]
        rows.append(_row("attack success rate of the backdoor", cells))
    add("clean accuracy", lambda card: card.clean_accuracy)
    add("worst class, clean", lambda card: card.worst_class)
    for threat in distinct([figures.threat for card in cards for figures in card.threats]):
        at = threat_text(threat)
        add(f"worst case, {at}", _within(threat, lambda figures: figures.worst_case))
        add(f"rounded to 8 bits, {at}", _within(threat, lambda figures: figures.rounded_accuracy))
        add(f"worst class, {at}", _within(threat, lambda figures: figures.worst_class))
        changes = [card.within(threat) for card in cards]
        texts = [NOTHING if figures is None else f"{figures.max_norm:.4g}" for figures in changes]
        rows.append(_text_row(f"largest change, {at}", texts))
    proofs = [(one.certified.method, Threat(norm=one.certified.norm, eps=one.certified.eps))
              for card in cards for one in card.certified]  # fmt: skip
    for method, threat in distinct(proofs):
        add(f"certified by {method}, {threat_text(threat)}", _proved(method, threat))
    blocks = [None if card.corruptions is None else card.corruptions.corruptions for card in cards]
    if any(blocks):
        # A mean over other corruptions is another figure.
        kinds = [
            {(name, point.severity) for name, points in block.accuracy.items() for point in points}
            for block in blocks
            if block is not None
        ]
        bests = _bests(
            [None if block is None else block.mean_accuracy for block in blocks], alike and len(distinct(kinds)) == 1
        )
        cells = [
            f'<td class="number">{NOTHING}</td>'
            if block is None
            else f'<td class="number">{_bold(percent(block.mean_accuracy), best)} '
            f"<small>{len(block.accuracy)} kinds</small></td>"
            for block, best in zip(blocks, bests, strict=True)
        ]
        rows.append(_row("common corruptions, mean", cells))
    rows += [
        _text_row("flags", [str(len(card.flags) or "none") for card in cards]),
        _text_row("files of results", [str(len(card.evidence)) for card in cards]),
        _text_row("model", [card.model.name for card in cards]),
        _text_row("parameters", [plain(card.model.parameters) for card in cards]),
        _text_row("data", [card.data.name for card in cards]),
        _text_row("training time", [seconds_text(card.cost.train_seconds) for card in cards]),
        _text_row("weights", [(card.model.sha256 or "").removeprefix("sha256:")[:12] for card in cards]),
    ]
    head = "".join(
        f'<th class="number"><a href="#model-{place + 1}">{escape(name)}</a></th>' for place, name in enumerate(names)
    )
    note = "Bold: the best of its row. Where 95% intervals overlap, the order may be chance."
    if not alike:
        note = "The models were measured on different data, so that their figures do not compare."
    return (
        f'<div class="wide"><table><thead><tr><th>figure</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        f'</table></div><p class="note">{note}</p>'
    )


def _within(threat: Threat, pick: Callable[[ThreatFigures], Figure | None]) -> Callable[[Card], Figure | None]:
    return lambda card: pick(figures) if (figures := card.within(threat)) is not None else None


def _proved(method: str, threat: Threat) -> Callable[[Card], Figure | None]:
    def pick(card: Card) -> Figure | None:
        for proof in card.certified:
            block = proof.certified
            if (block.method, block.norm, block.eps) == (method, threat.norm, threat.eps):
                return Figure(accuracy=block.certified_accuracy, source=proof.source)
        return None

    return pick


def _bests(values: Sequence[float | None], alike: bool) -> list[bool]:
    """Which of the values is the highest of two or more."""
    known = [value for value in values if value is not None]
    return [alike and len(known) > 1 and value == max(known) for value in values]


def _bold(text: str, best: bool) -> str:
    return f"<b>{text}</b>" if best else text


def _cell(best: bool, rate: Rate, more: str = "") -> str:
    low, high = rate.ci95
    detail = f"{more}{percent(low, '')} to {percent(high, '')}, n {rate.n:,}"
    return f'<td class="number">{_bold(percent(rate.value), best)} <small>{escape(detail)}</small></td>'


def _text_row(what: str, texts: Sequence[str]) -> str:
    return _row(what, [f'<td class="number">{escape(text)}</td>' for text in texts])


def _row(what: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{escape(what)}</th>{"".join(cells)}</tr>'


def comparison_bars(cards: Sequence[Card], names: Sequence[str]) -> str:
    """Clean and worst-case accuracy of each model as bars, where all were attacked within one budget."""
    if len(distinct([card.threat for card in cards])) > 1:
        return ""
    worst = [card.own_threat.worst_case if card.own_threat is not None else None for card in cards]
    rows = [
        (name, card.clean_accuracy.accuracy, one.accuracy if one is not None else None)
        for name, card, one in zip(names, cards, worst, strict=True)
    ]
    return figure(accuracy_bars(rows), f"Worst case within {threat_text(cards[0].threat)}.")


def distinct(items: Sequence[Item]) -> list[Item]:
    """Without repetitions, for items that cannot be hashed."""
    return [item for place, item in enumerate(items) if item not in items[:place]]
