"""Model extraction as a table: how good a copy was made of so many queries, and what a defense did about it."""

from __future__ import annotations

from dataclasses import replace

from robustml.reporting.formats import percent, plain
from robustml.reporting.tables.cells import Content, Row, Table
from robustml.reporting.tables.text import table_text, wrapped
from robustml.results import ExtractionResults, Rate


def extraction_text(block: ExtractionResults, width: int | None = None) -> str:
    """The table and the curve over the budget, as plain text."""
    table = extraction_table(block)
    points: list[Row] = [
        [f"fidelity from {point.queries:,} queries", point.fidelity, f"accuracy {percent(point.accuracy.value)}"]
        for point in block.curve
    ]
    return (
        f"{table_text(replace(table, rows=[*table.rows, *points], narrow=True), width)}\n{wrapped([table.note], width)}"
    )


def extraction_table(block: ExtractionResults) -> Table:
    """What was measured: a name, a rate, and a remark."""
    remark = f"{block.queries:,} of {block.budget:,} queries"
    against = "" if block.defense is None else f", against {block.defense.name}"
    rows: list[tuple[str, Rate | None, str]] = [
        ("fidelity of the copy", block.fidelity, remark + against),
        ("fidelity of one constant label", block.baseline_fidelity, ""),
        ("accuracy of the copy", block.accuracy, ""),
        ("accuracy of the victim", block.victim_accuracy, ""),
        ("transfer success", block.transfer_success, "adversarial examples made on the copy"),
    ]
    if block.measuring is not None:
        told = "" if block.counted is None else f"; the victim counted {block.counted:,}"
        rows.append(("asked besides, to measure", None, f"{block.measuring:,} inputs{told}"))
    rows += _defended(block)
    cells: list[list[Content]] = [[name, "" if rate is None else rate, more] for name, rate, more in rows]
    settings = ", ".join(f"{name} {plain(value)}" for name, value in block.params.items() if value is not None)
    note = (
        f"Method {block.method}{f' ({settings})' if settings else ''}, queries from {block.pool}. Fidelity is the "
        "share of test inputs on which copy and victim give one label."
    )
    return Table(["measure", "share, 95% interval", ""], cells, words=frozenset({""}), note=note)


def _defended(block: ExtractionResults) -> list[tuple[str, Rate | None, str]]:
    report = block.defense
    if report is None:
        return []
    honest = report.honest
    settings = ", ".join(f"{name} {plain(value)}" for name, value in report.params.items())
    moved = f"{100 * honest.label_accuracy_change:+.1f} points; probabilities moved by {honest.mean_l1_change:.3g} (L1)"
    rows: list[tuple[str, Rate | None, str]] = [
        ("undefended: fidelity", report.undefended.fidelity, f"{report.undefended.queries:,} queries"),
        ("undefended: accuracy", report.undefended.accuracy, ""),
        ("undefended: transfer success", report.undefended_transfer_success, ""),
        ("honest users: accuracy", honest.label_accuracy, moved),
        (f"defense {report.name}", None, settings or "no settings"),
    ]
    if report.watches:
        rows.append(("alarm over the attacker", None, _alarm(report.alarm_after)))
        rows.append(("false alarm over honest users", None, _alarm(honest.false_alarm_after)))
    return rows


def _alarm(after: int | None) -> str:
    return "none" if after is None else f"after {after:,} queries"
