"""The summary of one or several runs as plain text, as HTML and as a data frame."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from robustml.reporting.formats import NOTHING, eps_text, half_width, norm_text, percent
from robustml.reporting.runs import Run, comparable, labels
from robustml.reporting.verdict import verdict
from robustml.results import Rate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["asked_rates", "attack_names", "rate_cell", "summary_frame", "summary_html", "summary_table"]

LONGEST_LABEL = 36


@dataclass(frozen=True)
class Column:
    """A column of the text table: its heading, one cell a run, and to which side it is flush."""

    heading: str
    cells: list[str]
    left: bool = False

    @property
    def width(self) -> int:
        return max(len(text) for text in (self.heading, *self.cells))

    def lines(self) -> list[str]:
        flush = str.ljust if self.left else str.rjust
        return [flush(text, self.width) for text in (self.heading, *self.cells)]


def attack_names(runs: Sequence[Run]) -> list[str]:
    """The attacks of all runs, in the order in which they first appear."""
    return list(dict.fromkeys(name for run in runs for name in run.results.attacks))


def summary_table(runs: Sequence[Run], width: int = 100) -> str:
    """Clean and robust accuracy of each run as plain text.

    Args:
        runs: the runs, one a row.
        width: columns of the terminal; attacks that do not fit go to a second block below.

    Returns:
        Lines without colour codes; accuracies in percent with half of their 95% interval.
    """
    if not runs:
        return "no runs"
    names = [_short(name) for name in labels(runs)]
    first = [Column("run", names, left=True)]
    models = [run.results.model.name for run in runs]
    if len(set(models)) > 1:
        first.append(Column("model", [_short(model) for model in models], left=True))
    threats = [_threat(run) for run in runs]
    if len(set(threats)) > 1:
        first.append(Column("threat", threats, left=True))

    verdicts = [verdict(run.results) for run in runs]
    if len(runs) > 1:
        first.append(Column("verdict", [found.word for found in verdicts], left=True))
    # What was asked for leads, as on the page.
    figures = [Column(name, _rate_cells(rates)) for name, rates in asked_rates(runs).items()]
    figures.append(Column("clean", _rate_cells([run.results.clean_accuracy for run in runs])))
    for attack in attack_names(runs):
        found = [run.results.attacks.get(attack) for run in runs]
        rates = [result.robust_accuracy if result else None for result in found]
        figures.append(Column(_short(attack), _rate_cells(rates)))
    if attack_names(runs):
        figures.append(Column("worst case", _rate_cells([_worst(run) for run in runs])))
    blocks = [run.results.corruptions for run in runs]
    if any(blocks):
        means = [None if block is None else block.mean_accuracy for block in blocks]
        figures.insert(len(asked_rates(runs)), Column("corruptions", [percent(mean, sign="") for mean in means]))
    if len({run.results.clean_accuracy.n for run in runs}) > 1:
        figures.append(Column("n", [f"{run.results.clean_accuracy.n:,}" for run in runs]))

    # Narrower gaps before a second block.
    gap = next((gap for gap in ("    ", "   ", "  ") if len(_parts(first, figures, width, gap)) == 1), "   ")
    tables = [_block([*first, *part], gap) for part in _parts(first, figures, width, gap)]
    notes = _notes(runs, names, set(threats), width)
    if len(runs) == 1:
        notes = textwrap.wrap(f"verdict: {verdicts[0].text}", width, subsequent_indent="  ") + notes
    return "\n\n".join(tables) + "\n" + "\n".join(notes)


def asked_rates(runs: Sequence[Run]) -> dict[str, list[Rate | None]]:
    """What was measured beside clean accuracy and attacks, by the heading of its column; columns without any left out.

    Corruptions are a mean, not a rate, and are not among them.
    """
    columns: dict[str, list[Rate | None]] = {
        heading: [
            next((finding.rate for finding in verdict(run.results).findings if finding.kind == kind), None)
            for run in runs
        ]
        for heading, kind in (("backdoor", "backdoor"), ("fidelity", "extraction"), ("certified", "certified"))
    }
    return {heading: rates for heading, rates in columns.items() if any(rates)}


def _parts(first: list[Column], figures: list[Column], width: int, gap: str) -> list[list[Column]]:
    """The columns of figures in groups that fit beside the first columns."""
    parts: list[list[Column]] = [[]]
    for column in figures:
        total = _width([*first, *parts[-1], column], gap)
        if parts[-1] and total > width:
            parts.append([])
        parts[-1].append(column)
    return parts


def _width(columns: list[Column], gap: str) -> int:
    return sum(column.width for column in columns) + len(gap) * (len(columns) - 1)


def _block(columns: list[Column], gap: str) -> str:
    rows = [gap.join(cells).rstrip() for cells in zip(*(column.lines() for column in columns), strict=True)]
    rule = "─" * _width(columns, gap)
    return "\n".join([rows[0], rule, *rows[1:], rule])


def _notes(runs: Sequence[Run], names: Sequence[str], threats: set[str], width: int) -> list[str]:
    facts = ["accuracy in %, ± half of the 95% interval"]
    if any(run.results.backdoor for run in runs):
        facts.append("backdoor: attack success rate over other classes than its target")
    if any(run.results.extraction for run in runs):
        facts.append("clean: of the copy; fidelity: the victim's label given")
    if any(run.results.corruptions for run in runs):
        facts.append("corruptions: mean accuracy")
    counts = {run.results.clean_accuracy.n for run in runs}
    if len(counts) == 1:
        facts.append(f"n {counts.pop():,}")
    if len(threats) == 1:
        facts.append(threats.pop())
    data = {run.results.data.name for run in runs}
    if len(data) == 1:
        facts.append(f"data {data.pop()}")
    if len({run.results.model.name for run in runs}) == 1:
        facts.append(f"model {runs[0].results.model.name}")
    notes = textwrap.wrap(" · ".join(facts), width)
    for run, name in zip(runs, names, strict=True):
        for flag in run.results.flags:
            text = f"! {name}: {flag.name}{f' ({flag.attack})' if flag.attack else ''}: {flag.message}"
            notes += textwrap.wrap(text, width, subsequent_indent="  ")
    return notes


def _threat(run: Run) -> str:
    return f"{norm_text(run.results.threat.norm)} eps {eps_text(run.results.threat.eps)}"


def _worst(run: Run) -> Rate | None:
    """None where nobody attacked: the clean accuracy is no worst case."""
    return run.results.worst_case.robust_accuracy if run.results.worst_case and run.results.attacks else None


def _rate_cells(rates: Sequence[Rate | None]) -> list[str]:
    """Values and their intervals, each flush right among themselves."""
    values = ["" if rate is None else percent(rate.value, sign="") for rate in rates]
    halves = ["" if rate is None or rate.value is None else f"{100 * (half_width(rate) or 0):.1f}" for rate in rates]
    wide, narrow = max(map(len, values)), max(map(len, halves))
    cells = []
    for value, half in zip(values, halves, strict=True):
        cells.append(f"{value or NOTHING:>{wide}} ±{half:>{narrow}}" if half else (value or NOTHING))
    return cells


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def rate_cell(rate: Rate | None, css: str = "", narrow: bool = False) -> str:
    """A table cell in HTML with a rate, its interval (its half width where room is short) and a bar of its length."""
    if rate is None or rate.value is None:
        return f'<td class="number">{NOTHING}</td>'
    low, high = (100 * bound for bound in rate.ci95)
    text = f"±{(high - low) / 2:.1f}" if narrow else f"{low:.1f} to {high:.1f}"
    bar = f'<span class="bar {css}"><i style="width:{100 * rate.value:.1f}%"></i></span>'
    interval = f'<small title="95% interval: {low:.1f} to {high:.1f}">{text}</small>'
    return f'<td class="number"><b>{percent(rate.value)}</b> {interval}{bar}</td>'


def summary_html(runs: Sequence[Run], anchors: Sequence[str] | None = None) -> str:
    """The summary as an HTML table: a row a run, one column per attack.

    Args:
        runs: the runs, one a row.
        anchors: ids of elements of the page to which the names of the runs shall lead.
    """
    attacks = attack_names(runs)
    models = len({run.results.model.name for run in runs}) > 1
    data = len({run.results.data.name for run in runs}) > 1
    threats = len({_threat(run) for run in runs}) > 1
    facts = [(models, "model"), (data, "data"), (threats, "threat")]
    asked = asked_rates(runs)
    corrupted = ["corruptions, mean"] if any(run.results.corruptions for run in runs) else []
    named = ["run", "verdict", *(name for shown, name in facts if shown)]
    headings = [*named, *asked, *corrupted, "clean", *attacks, "worst case", "n", "flags"]
    left = len(named)
    head = "".join(
        f"<th{'' if place < left else ' class=number'}>{escape(text)}</th>" for place, text in enumerate(headings)
    )
    worst_values = [rate.value for rate in map(_worst, runs) if rate is not None and rate.value is not None]
    best = max(worst_values) if len(worst_values) > 1 and comparable(runs) else None
    rows = []
    for place, (run, name) in enumerate(zip(runs, labels(runs), strict=True)):
        results, worst = run.results, _worst(run)
        label = escape(name)
        if anchors is not None:
            label = f'<a href="#{escape(anchors[place])}">{label}</a>'
        found = verdict(results)
        cells = [
            f'<th scope="row">{label}</th>',
            f'<td><span class="word {found.level}">{escape(found.word)}</span></td>',
        ]
        cells += [f"<td>{escape(results.model.name)}</td>"] * models
        cells += [f"<td>{escape(results.data.name)}</td>"] * data
        cells += [f"<td>{escape(_threat(run))}</td>"] * threats
        cells += [rate_cell(rates[place], narrow=True) for rates in asked.values()]
        if corrupted:
            mean = None if results.corruptions is None else results.corruptions.mean_accuracy
            cells.append(f'<td class="number">{percent(mean)}</td>')
        cells.append(rate_cell(results.clean_accuracy, "clean", narrow=True))
        for attack in attacks:
            result = results.attacks.get(attack)
            cells.append(rate_cell(result.robust_accuracy if result else None, narrow=True))
        cells.append(rate_cell(worst, narrow=True))
        cells.append(f'<td class="number">{results.clean_accuracy.n:,}</td>')
        cells.append(f'<td class="number">{len(results.flags) or "none"}</td>')
        leads = best is not None and worst is not None and worst.value == best
        rows.append(f"<tr{' class=leads' if leads else ''}>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def summary_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """The summary as a data frame: a row a run; accuracies and interval bounds as fractions.

    Each rate has three columns: `clean_accuracy`, `clean_accuracy_low`, `clean_accuracy_high`; likewise
    `robust_accuracy/<attack>` for each attack, `worst_case`, and `backdoor`, `fidelity` and `certified` where any run
    has them. `corruptions` is a mean, and `verdict` the verdict in a word or two.
    """
    import pandas as pd

    rows = []
    attacks, asked = attack_names(runs), asked_rates(runs)
    for place, (run, name) in enumerate(zip(runs, labels(runs), strict=True)):
        results = run.results
        row: dict[str, Any] = {
            "run": name,
            "experiment": results.experiment,
            "model": results.model.name,
            "data": results.data.name,
            "seed": results.seed,
            "norm": results.threat.norm,
            "eps": results.threat.eps,
            "n": results.clean_accuracy.n,
        }
        row |= _rate_columns("clean_accuracy", results.clean_accuracy)
        for attack in attacks:
            result = results.attacks.get(attack)
            row |= _rate_columns(f"robust_accuracy/{attack}", result.robust_accuracy if result else None)
        row |= _rate_columns("worst_case", _worst(run))
        for heading, rates in asked.items():
            row |= _rate_columns(heading, rates[place])
        row["corruptions"] = None if results.corruptions is None else results.corruptions.mean_accuracy
        row["verdict"] = verdict(results).word
        row["flags"] = len(results.flags)
        rows.append(row)
    return pd.DataFrame(rows)


def _rate_columns(name: str, rate: Rate | None) -> dict[str, float | None]:
    low, high = rate.ci95 if rate is not None else (None, None)
    return {name: rate.value if rate is not None else None, f"{name}_low": low, f"{name}_high": high}
