"""Shares in a short table: for a terminal, and for a notebook."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from robustml.errors import printable
from robustml.results.rates import Rate

_HEADINGS = ("", "right in %", "95% interval", "n")


def table_text(rates: Mapping[str, Rate], notes: Sequence[str], width: int = 80) -> str:
    """A row a rate, by name, and notes below it, in lines of up to `width` letters."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 1))
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for row in _rows(rates):
        table.add_row(*row)
    out = io.StringIO()
    # In a notebook rich would draw into the page, and nothing into the text.
    plain: dict[str, Any] = {"color_system": None, "legacy_windows": False, "markup": False, "highlight": False}
    console = Console(file=out, width=width, force_jupyter=False, **plain)
    console.print(table, *map(printable, notes), sep="\n")
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().split("\n"))


def table_html(rates: Mapping[str, Rate], notes: Sequence[str]) -> str:
    """The same as a table that a notebook draws, everything escaped."""
    rows = [("th", _HEADINGS), *(("td", row) for row in _rows(rates))]
    lines = ("".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) for tag, row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{body}</table>{''.join(f'<p>{escape(printable(note))}</p>' for note in notes)}"


def _rows(rates: Mapping[str, Rate]) -> list[tuple[str, ...]]:
    texts = {name: (100 * float(rate), *(100 * bound for bound in rate.ci95)) for name, rate in rates.items()}
    return [
        (printable(name), f"{value:.1f}", f"{low:.1f} to {high:.1f}", f"{rates[name].n:,}")
        for name, (value, low, high) in texts.items()
    ]
