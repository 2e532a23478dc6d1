"""Reports on finished runs: tables, figures and self-contained pages.

What draws pages is loaded when it is first used: a gate reads results and waits for no plotting library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustml.reporting.runs import Run, find_runs, read_run

if TYPE_CHECKING:
    from robustml.reporting.pages.card import write_cards
    from robustml.reporting.pages.ranking import summary_frame
    from robustml.reporting.pages.report import write_report
    from robustml.reporting.pages.sweep import write_sweep
    from robustml.reporting.tables.comparison import summary_table

__all__ = [
    "Run",
    "find_runs",
    "read_run",
    "summary_frame",
    "summary_table",
    "write_cards",
    "write_report",
    "write_sweep",
]

_HOMES = {
    "summary_frame": "pages.ranking",
    "summary_table": "tables.comparison",
    "write_cards": "pages.card",
    "write_report": "pages.report",
    "write_sweep": "pages.sweep",
}


def __getattr__(name: str) -> Any:
    """Import what draws from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'robustml.reporting' has no attribute {name!r}")
    from importlib import import_module  # start-up: see above

    return getattr(import_module(f"robustml.reporting.{_HOMES[name]}"), name)
