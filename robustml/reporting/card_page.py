"""The page of a card: one model in full, or several side by side; it says what card.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType

from robustml.reporting.card import Gathered, threat_text
from robustml.reporting.card_comparison import comparison_bars, comparison_table
from robustml.reporting.card_evidence import evidence_table, fact_cards, headed_table, left_out_details
from robustml.reporting.formats import NOTHING, norm_text, percent, plain, seconds_text
from robustml.reporting.measured import corruption_section, extra_sections
from robustml.reporting.page import document, figure, left_out_box, section, tile, verdict_box
from robustml.reporting.plots import MOST_CLASSES, accuracy_curve, class_bars
from robustml.reporting.tables import rate_cell
from robustml.results import CARD_SCHEMA, Card, ClassFigure, Figure, Rate, Threat, ThreatFigures

__all__ = ["card_page"]

_NONE: Mapping[str, str] = MappingProxyType({})


def card_page(found: Sequence[Gathered], names: Sequence[str], left_out: Mapping[str, str] = _NONE) -> str:
    """The whole page.

    Args:
        found: one card, or several to set side by side.
        names: a short, distinct name for each.
        left_out: runs of which no card could be made, and why.
    """
    if len(found) == 1:
        card = found[0].card
        kicker = f"Robustness card · {card.data.name} · {card.model.name} · seed {card.seed}"
        heading, body = names[0], _one(found[0])
    else:
        kicker = f"Robustness cards · {', '.join(dict.fromkeys(gathered.card.data.name for gathered in found))}"
        heading, body = f"{len(found)} models side by side", _several(found, names)
    head = f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(heading)}</h1></header>'
    foot = (
        f"<footer>Card schema {CARD_SCHEMA}. Intervals are Wilson 95% intervals of the proportion; worst case counts "
        "an example as right only if no attack turned it. Robust accuracies are upper bounds: a stronger attack can "
        "lower them; certified ones are lower bounds. All figures: card.json.</footer>"
    )
    return document(f"{heading} · robustness card", [head, left_out_box(left_out), *body, foot])


def _one(gathered: Gathered) -> list[str]:
    card = gathered.card
    own = card.own_threat
    others = [figures for figures in card.threats if figures is not own]
    folded = "".join(_attacks(card, figures) for figures in others)
    if len(others) > 1:
        folded = f"<details><summary>Attacks within {len(others)} other budgets</summary>{folded}</details>"
    return [
        _verdict(card),
        _verified(card),
        _tiles(card),
        _flag_box(card),
        section("Worst case by budget", _budgets(card)),
        _attacks(card, own) if own is not None else "",
        folded,
        section("Accuracy as the attacker's budget grows", *_curves([gathered], [""])),
        _classes(gathered),
        *_measured(gathered),
        section("What the figures are from", evidence_table(card), left_out_details(card)),
        section("Facts", fact_cards(card)),
    ]


def _several(found: Sequence[Gathered], names: Sequence[str]) -> list[str]:
    cards = [gathered.card for gathered in found]
    parts = [section("Side by side", comparison_table(cards, names), comparison_bars(cards, names))]
    parts.append(section("Accuracy as the attacker's budget grows", *_curves(found, names)))
    for place, (card, name) in enumerate(zip(cards, names, strict=True)):
        details = evidence_table(card) + left_out_details(card) + fact_cards(card)
        inside = [
            f"<h2>{escape(name)}</h2>",
            _verdict(card),
            _verified(card),
            _flag_box(card),
            section("Worst case by budget", _budgets(card), level=3),
            *(_attacks(card, figures, level=3) for figures in card.threats[:1]),
            f"<details><summary>What the figures are from, and facts</summary>{details}</details>",
        ]
        parts.append(f'<section class="run" id="model-{place + 1}">{"".join(inside)}</section>')
    return parts


def _verified(card: Card) -> str:
    count = len(card.evidence)
    which = (
        "the results.json that the figures below are from" if count == 1 else f"each of the {count} files of results"
    )
    text = f"The weights on disk are those that were measured: their SHA-256 digest is the one named in {which}."
    if card.left_out:
        left_out = len(card.left_out)
        were = "was" if left_out == 1 else "were"
        text += f" {left_out} more {were} left out: of another model, of other data, or damaged."
    return f'<p class="lead">{escape(text)}</p>'


def _verdict(card: Card) -> str:
    """The verdict over all files, above all else."""
    found = card.verdict
    return "" if found is None else verdict_box(found.level, found.word, found.sentences)


def _interval(rate: Rate) -> str:
    if rate.value is None:
        return "no test examples"
    return f"95% interval {percent(rate.ci95[0], '')} to {percent(rate.ci95[1])}, n {rate.n:,}"


def _tiles(card: Card) -> str:
    """The verdict in large figures."""

    def rate_tile(what: str, rate: Rate, prefix: str = "") -> str:
        return tile(what, percent(rate.value), prefix + _interval(rate), share=rate.value)

    cells = []
    if card.backdoor is not None:
        success = card.backdoor.backdoor.attack_success_rate
        css = "alarm" if card.verdict is not None and card.verdict.level == "alarm" else "alert"
        name = "Attack success rate of the backdoor"
        cells.append(tile(name, percent(success.value), _interval(success), share=success.value, css=css))
    cells.append(rate_tile("Clean accuracy", card.clean_accuracy.accuracy))
    own = card.own_threat
    at = threat_text(card.threat)
    if own is None:
        cells.append(tile(f"Worst case under attack, {at}", NOTHING, "not attacked within this budget"))
    elif own.worst_case is not None:
        shown = own.worst_case.accuracy
        more = _interval(shown) + ("; less in another evaluation, see the flags" if own.lower else "")
        what = f"Worst case under attack, {at}"
        cells.append(tile(what, percent(shown.value), more, share=shown.value, css="alert" if own.lower else ""))
    elif own.upper_bounds:
        bound = min((figure.accuracy for figure in own.upper_bounds), key=lambda rate: rate.value or 0.0)
        more = "upper bound: no evaluation within this budget is complete"
        cells.append(tile(f"Worst case under attack, {at}", f"at most {percent(bound.value)}", more, css="alert"))
    for proof in card.certified[:1]:
        certified = proof.certified
        what = f"Certified, {threat_text(Threat(norm=certified.norm, eps=certified.eps))}"
        cells.append(rate_tile(what, certified.certified_accuracy, f"{certified.method}; "))
    if own is not None and own.worst_class is not None:
        worst = own.worst_class
        cells.append(rate_tile("Worst class under attack", worst.accuracy, f"class {worst.name}; "))
    if card.corruptions is not None:
        block = card.corruptions.corruptions
        count = sum(map(len, block.accuracy.values()))
        cells.append(tile("Common corruptions, mean", percent(block.mean_accuracy), f"{count} kinds and severities"))
    names = ", ".join(dict.fromkeys(flag.name.replace("_", " ") for flag in card.flags))
    count = len(card.flags)
    raised = f"{count} raised" if count else "none raised"
    fine = card.verdict is not None and card.verdict.level == "fine"
    css = "alert" if count else "fine" if fine else ""
    cells.append(
        tile(
            "Flags",
            raised,
            names or "by the evaluator's checks of model and attacks, which look for no backdoor",
            css=css,
        )
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def _flag_box(card: Card) -> str:
    items = [
        f"<li><b>{escape(flag.name.replace('_', ' '))}</b>{f' ({escape(flag.attack)})' if flag.attack else ''}: "
        f"{escape(flag.message)} <small>({escape(', '.join(flag.sources))})</small></li>"
        for flag in card.flags
    ]
    if not items:
        return ""
    heading = f"<h3>⚠ {len(items)} {'flag' if len(items) == 1 else 'flags'} raised</h3>"
    return f'<div class="flags" role="note">{heading}<ul>{"".join(items)}</ul></div>'


def _count(rate: Rate) -> str:
    return f'<td class="number">{rate.n:,}</td>'


def _numbers(card: Card) -> dict[str, int]:
    """The number by which tables refer to each file."""
    return {evidence.name: place + 1 for place, evidence in enumerate(card.evidence)}


def _budgets(card: Card) -> str:
    """Clean accuracy, then what is left within each budget: figures, other evaluations and bounds."""
    numbers = _numbers(card)

    def row(what: str, found: Figure, worst: ClassFigure | None = None, rounded: Figure | None = None) -> str:
        elsewhere = ""
        if rounded is not None and rounded.source != found.source:
            elsewhere = f"<small>n {rounded.accuracy.n:,}, file {numbers[rounded.source]}</small>"
        stored = rate_cell(rounded.accuracy if rounded else None).replace("</td>", f"{elsewhere}</td>")
        return (
            f'<tr><th scope="row">{escape(what)}</th>{rate_cell(found.accuracy)}{_count(found.accuracy)}'
            f'{stored}{_class_cell(worst)}<td class="number">{numbers[found.source]}</td></tr>'
        )

    rows = [row("clean", card.clean_accuracy, card.worst_class)]
    for figures in card.threats:
        at = threat_text(figures.threat)
        if figures.worst_case is not None:
            rows.append(row(at, figures.worst_case, figures.worst_class, figures.rounded_accuracy))
        rows += [row(f"{at}, another evaluation", other) for other in figures.others]
        rows += [row(f"{at}, at most: not complete", bound) for bound in figures.upper_bounds]
    headings = ["budget", "accuracy, 95% interval", "n", "rounded to 8 bits", "worst class", "file"]
    return headed_table(headings, rows, numbers=headings[1:])


def _class_cell(worst: ClassFigure | None) -> str:
    if worst is None:
        return f'<td class="number">{NOTHING}</td>'
    name = f"<small>class {escape(worst.name)}, n {worst.accuracy.n:,}</small></td>"
    return rate_cell(worst.accuracy).replace("</td>", name)


def _attacks(card: Card, figures: ThreatFigures, level: int = 2) -> str:
    """Every attack of every evaluation within a budget: those on most images first, the strongest among them."""
    numbers = _numbers(card)
    rows, settings = [], []
    for row in figures.attacks:
        marks = "" if row.complete else ' <span class="mark">upper bound: not complete</span>'
        # As in the report: float32 may exceed eps by its rounding.
        beyond = row.max_norm > figures.threat.eps * 1.001 + 1e-6
        excess = ' <span class="mark">beyond eps</span>' if beyond else ""
        name, number = f'<th scope="row">{escape(row.attack)}', f'<td class="number">{numbers[row.source]}</td>'
        rows.append(
            f"<tr>{name}{marks}</th>{rate_cell(row.robust_accuracy)}"
            f"{_count(row.robust_accuracy)}{rate_cell(row.rounded_accuracy)}"
            f'<td class="number">{row.max_norm:.4g}{excess}</td>'
            f'<td class="number">{escape(seconds_text(row.seconds))}</td>{number}</tr>'
        )
        chips = "".join(
            f'<span class="chip">{escape(str(key))} {escape(plain(value))}</span>' for key, value in row.params.items()
        )
        settings.append(f'<tr>{name}</th>{number}<td class="chips">{chips}</td></tr>')
    change = f"largest change ({norm_text(figures.threat.norm)})"
    headings = ["attack", "robust accuracy, 95% interval", "n", "rounded to 8 bits", change, "time", "file"]
    note = f"Largest change that any attack made: {figures.max_norm:.4g}, allowed {figures.threat.eps:.4g}."
    table = headed_table(["attack", "file", "settings"], settings, numbers=["file"])
    return section(
        f"Attacks within {threat_text(figures.threat)}",
        headed_table(headings, rows, numbers=headings[1:]),
        f'<p class="note">{escape(note)}</p>',
        f"<details><summary>Settings of the attacks</summary>{table}</details>",
        level=level,
    )


def _curves(found: Sequence[Gathered], names: Sequence[str]) -> list[str]:
    """The curves of all cards, one chart for each norm: budgets of different norms do not share an axis."""
    charts = []
    curves = [(name, gathered, curve) for name, gathered in zip(names, found, strict=True)
              for curve in gathered.card.curves]  # fmt: skip
    for norm in dict.fromkeys(curve.norm for _, _, curve in curves):
        members = [(name, gathered, curve.curve) for name, gathered, curve in curves if curve.norm == norm]
        attacks = list(dict.fromkeys(curve.attack for _, _, curve in members))
        alike = len(attacks) == 1
        lines = [
            (": ".join(part for part in (name, "" if alike and name else curve.attack) if part), curve)
            for name, _, curve in members
        ]
        train_eps = [
            eps for _, gathered, _ in members if (eps := gathered.run.train_eps) and gathered.card.threat.norm == norm
        ]
        counts = sorted({curve.points[0].robust_accuracy.n for _, _, curve in members})
        seen = " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))
        took_part = list(dict.fromkeys(each for _, _, curve in members for each in curve.took_part))
        caption = f"{norm_text(norm)}, the worst of {', '.join(took_part)}, n {seen}; bands are 95% intervals."
        charts.append(figure(accuracy_curve(lines, train_eps, norm), caption))
    return charts


def _classes(gathered: Gathered) -> str:
    """The classes of the evaluation that the worst case is from, or else of the clean accuracy."""
    own = gathered.card.own_threat
    found = own.worst_case if own is not None and own.worst_case is not None else gathered.card.clean_accuracy
    rows = gathered.sources[found.source].results.per_class
    caption = f"From {found.source}."
    if len(rows) > MOST_CLASSES:
        caption += f" The {MOST_CLASSES} of {len(rows)} classes that hold up worst."
    return section("By class", figure(class_bars(rows), caption))


def _measured(gathered: Gathered) -> list[str]:
    """Corruptions and certificates, as the reports of their own evaluations show them."""
    card = gathered.card
    parts = []
    if card.corruptions is not None:
        parts.append(corruption_section(gathered.sources[card.corruptions.source].results))
    for proof in card.certified:
        results = gathered.sources[proof.source].results
        alone = results.model_copy(update={"corruptions": None, "backdoor": None, "extraction": None})
        parts.append(extra_sections(alone))
    return parts
