"""Model extraction in results.json and on the page: how good a copy was made of so many queries."""

from __future__ import annotations

from html import escape

from robustml.reporting.figures import as_svg, legend_above, new_figure, percent_axis, style, styled
from robustml.reporting.formats import half_width, percent, plain
from robustml.reporting.page import figure, section
from robustml.reporting.tables import rate_cell
from robustml.results import ExtractionResults, Rate

__all__ = ["extraction_section", "extraction_table"]


def _lines(block: ExtractionResults) -> list[tuple[str, Rate | None, str]]:
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
    if block.defense is None:
        return lines
    report, honest = block.defense, block.defense.honest
    settings = ", ".join(f"{name} {plain(value)}" for name, value in report.params.items())
    lines[0] = ("fidelity of the copy", block.fidelity, f"{remark}, against {report.name}")
    lines += [
        ("undefended: fidelity", report.undefended.fidelity, f"{report.undefended.queries:,} queries"),
        ("undefended: accuracy", report.undefended.accuracy, ""),
        ("undefended: transfer success", report.undefended_transfer_success, ""),
        ("honest users: accuracy", honest.label_accuracy,
         f"{100 * honest.label_accuracy_change:+.1f} points; probabilities moved by {honest.mean_l1_change:.3g} (L1)"),
    ]  # fmt: skip
    rows: list[tuple[str, Rate | None, str]] = [(f"defense {report.name}", None, settings or "no settings")]
    if report.watches:
        rows += [
            ("alarm over the thief", None, _alarm(report.alarm_after)),
            ("false alarm over honest users", None, _alarm(honest.false_alarm_after)),
        ]
    return lines + rows


def extraction_table(block: ExtractionResults, width: int = 100) -> str:
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


def extraction_section(block: ExtractionResults) -> str:
    """The section of a report."""
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


def _chart(block: ExtractionResults) -> str:
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
