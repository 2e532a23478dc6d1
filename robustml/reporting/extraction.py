"""Model extraction in results.json and on the page: how good a copy was made of so many queries."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pydantic import Field, ValidationError, model_validator

from robustml.reporting.figures import as_svg, legend_above, new_figure, percent_axis, style, styled
from robustml.reporting.formats import half_width, percent, plain
from robustml.reporting.page import figure, section
from robustml.reporting.tables import rate_cell
from robustml.results import Block, Count, Rate

__all__ = ["Extraction", "ExtractionPoint", "extraction_section", "extraction_table"]


class ExtractionPoint(Block):
    """A copy made of the first `queries` answers alone."""

    queries: Count
    fidelity: Rate
    accuracy: Rate


class HonestUse(Block):
    """What a defence does to honest users' answers about the test set.

    `label_accuracy_change` is a fraction, below 0 where they lose; `mean_l1_change` lies in 0 to 2; `false_alarm_after`
    counts honest queries.
    """

    label_accuracy: Rate
    label_accuracy_change: float
    mean_l1_change: float
    false_alarm_after: Count | None = None


class DefenceReport(Block):
    """A defence of the interface: the copy made without it, what honest users pay, and its alarms if it `watches`."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    undefended: ExtractionPoint
    undefended_transfer_success: Rate
    watches: bool = False
    alarm_after: Count | None = None
    honest: HonestUse


class Extraction(Block):
    """The `extraction` block: rates are over the test set; `transfer_success` over what the victim gets right.

    `baseline_fidelity` is that of always giving the victim's most frequent label. `queries` is what the copy is made
    of, within the `budget`; `measuring` is what the victim was asked besides, to measure the copy, and `counted` is how
    many inputs the victim itself says that it has answered in all. None where it is not known.
    """

    method: str
    params: dict[str, Any] = Field(default_factory=dict)
    pool: str
    queries: Count
    budget: Count
    measuring: Count | None = None
    counted: Count | None = None
    fidelity: Rate
    baseline_fidelity: Rate
    accuracy: Rate
    victim_accuracy: Rate
    transfer_success: Rate
    curve: list[ExtractionPoint] = Field(default_factory=list)
    defence: DefenceReport | None = None

    @model_validator(mode="after")
    def _within_the_budget(self) -> Extraction:
        if self.queries > self.budget:
            raise ValueError(f"queries is {self.queries}, above the budget of {self.budget}")
        return self


def _lines(block: Extraction) -> list[tuple[str, Rate | None, str]]:
    """What was measured: a name, a rate, and a remark."""
    remark = f"{block.queries:,} of {block.budget:,} queries"
    lines: list[tuple[str, Rate | None, str]] = [
        ("fidelity of the copy", block.fidelity, remark),
        ("fidelity of one constant label", block.baseline_fidelity, ""),
        ("accuracy of the copy", block.accuracy, ""),
        ("accuracy of the victim", block.victim_accuracy, ""),
        ("transfer success", block.transfer_success, "adversarial examples made on the copy"),
    ]
    if block.measuring is not None:
        told = "" if block.counted is None else f"; the victim counted {block.counted:,}"
        lines.append(("asked besides, to measure", None, f"{block.measuring:,} inputs{told}"))
    if block.defence is None:
        return lines
    report, honest = block.defence, block.defence.honest
    settings = ", ".join(f"{name} {plain(value)}" for name, value in report.params.items())
    lines[0] = ("fidelity of the copy", block.fidelity, f"{remark}, against {report.name}")
    lines += [
        ("undefended: fidelity", report.undefended.fidelity, f"{report.undefended.queries:,} queries"),
        ("undefended: accuracy", report.undefended.accuracy, ""),
        ("undefended: transfer success", report.undefended_transfer_success, ""),
        ("honest users: accuracy", honest.label_accuracy,
         f"{100 * honest.label_accuracy_change:+.1f} points; probabilities moved by {honest.mean_l1_change:.3g} (L1)"),
    ]  # fmt: skip
    rows: list[tuple[str, Rate | None, str]] = [(f"defence {report.name}", None, settings or "no settings")]
    if report.watches:
        rows += [
            ("alarm over the thief", None, _alarm(report.alarm_after)),
            ("false alarm over honest users", None, _alarm(honest.false_alarm_after)),
        ]
    return lines + rows


def extraction_table(block: Extraction, width: int = 100) -> str:
    """What was measured, and the curve, as plain text without colour codes, lines of up to `width` letters."""
    rows = [(name, _cell(rate), remark) for name, rate, remark in _lines(block)]
    rows += [("fidelity over the budget", "", "")] * bool(block.curve)
    rows += [
        (f"  from {point.queries:,} queries", _cell(point.fidelity), f"accuracy {percent(point.accuracy.value)}")
        for point in block.curve
    ]
    left, right = (max(len(row[place]) for row in rows) for place in (0, 1))
    return "\n".join(f"{name:<{left}}   {cell:>{right}}   {remark}".rstrip()[:width] for name, cell, remark in rows)


def _alarm(after: int | None) -> str:
    return "none" if after is None else f"after {after:,} queries"


def _cell(rate: Rate | None) -> str:
    if rate is None:
        return ""
    half = half_width(rate)
    return percent(rate.value) + (f" ±{100 * half:4.1f}" if half is not None else "")


def extraction_section(content: Mapping[str, Any]) -> str:
    """The section of a report, "" for a block of another make."""
    try:
        block = Extraction.model_validate(dict(content))
    except ValidationError:
        return ""
    rows = []
    for name, rate, remark in _lines(block):
        cell = rate_cell(rate) if rate is not None else "<td></td>"
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cell}<td>{escape(remark)}</td></tr>')
    head = "<tr><th>measure</th><th class=number>share, 95% interval</th><th></th></tr>"
    table = f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    settings = ", ".join(f"{name} {plain(value)}" for name, value in block.params.items() if value is not None)
    note = (
        f"Method {block.method}{f' ({settings})' if settings else ''}, queries from {block.pool}. Fidelity is the "
        "share of test inputs on which copy and victim give one label."
    )
    chart = figure(_chart(block), "By number of queries, nested; bands are 95% intervals.")
    return section("Model extraction", table, f'<p class="note">{escape(note)}</p>', chart)


def _chart(block: Extraction) -> str:
    """Fidelity and accuracy of the copy against the number of queries."""
    if len(block.curve) < 2:
        return ""
    points = sorted(block.curve, key=lambda point: point.queries)
    queries = [point.queries for point in points]
    lines = (
        ("agrees with the victim (fidelity)", [point.fidelity for point in points]),
        ("is right (accuracy)", [point.accuracy for point in points]),
    )
    with styled():
        drawing = new_figure(960, 380)
        axes = drawing.add_subplot()
        for place, (label, rates) in enumerate(lines):
            look = style(place)
            low, high = zip(*(rate.ci95 for rate in rates), strict=True)
            axes.fill_between(queries, low, high, color=look["color"], alpha=0.16, linewidth=0)
            axes.plot(queries, [rate.value or 0.0 for rate in rates], label=label, **look)
        axes.set_xscale("log")
        axes.set_xticks(queries, [f"{count:,}" for count in queries])
        axes.minorticks_off()
        axes.set_xlabel("queries answered")
        axes.set_ylabel("share of the test set")
        percent_axis(axes)
        legend_above(axes, 2)
        last = percent(points[-1].fidelity.value)
        return as_svg(drawing, f"Fidelity and accuracy of the copy by number of queries, up to {last} fidelity")
