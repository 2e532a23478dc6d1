"""Reports on finished runs: the results schema, tables, figures and self-contained pages."""

from robustml.reporting.card import write_cards
from robustml.reporting.html import write_report
from robustml.reporting.runs import Run, find_runs, read_run
from robustml.reporting.sweep import collect_sweep
from robustml.reporting.tables import summary_frame, summary_html, summary_table

__all__ = [
    "Run",
    "collect_sweep",
    "find_runs",
    "read_run",
    "summary_frame",
    "summary_html",
    "summary_table",
    "write_cards",
    "write_report",
]
