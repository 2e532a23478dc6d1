"""Tables in a terminal: as wide as it is, and 80 columns where nobody looks at one."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from robustml.reporting.formats import plain
from robustml.reporting.tables.cells import Cell, Table

_GAP = 2
# Words are not broken into narrower columns than this.
_SHORTEST = 18


def terminal_width() -> int:
    """Columns of the terminal; 80 where the output goes elsewhere."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80


def table_text(table: Table, width: int | None = None) -> str:
    """A table in lines of up to `width` letters, without colour codes.

    In a table that does not fit, words are broken; where that is not enough it is turned, so that columns become rows;
    and where that does not fit either, what is left over follows in blocks below, each beginning with the first column.
    Long names in the first column, which would take three lines or the room of the others, stand in a list above, by
    number.
    """
    width = width or terminal_width()
    gaps, first = _GAP * (len(table.headings) - 1), _widths(table)[0]
    long = first > 2 * max(_SHORTEST, width - gaps - sum(_widths(table, broken=True)[1:]))
    for one, words in ((table, False), *([] if long else [(table, True)]), (table.turned(), False)):
        if sum(_widths(one, words)) + _GAP * (len(one.headings) - 1) <= width:
            return _drawn(one, width, range(len(one.headings)))
    if long:
        return _numbered(table, width)
    return "\n\n".join(_drawn(table, width, (0, *block)) for block in _blocks(table, width))


def _numbered(table: Table, width: int) -> str:
    names = [" ".join(name.split()) for name in _texts(table)[0][1:]]
    wide = len(str(len(names)))
    listed = (
        textwrap.fill(
            f"{number:>{wide}}  {name}", width, subsequent_indent=" " * (wide + 2), break_long_words=False,
            break_on_hyphens=False,
        )
        for number, name in enumerate(names, start=1)
    )  # fmt: skip
    rows = [(str(number), *row[1:]) for number, row in enumerate(table.rows, start=1)]
    return "\n".join(listed) + "\n\n" + table_text(replace(table, rows=rows), width)


def wrapped(lines: Iterable[str], width: int | None = None) -> str:
    """Lines broken at `width` letters, each indented where it goes on."""
    width = width or terminal_width()
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ") or [""])


def _blocks(table: Table, width: int) -> list[list[int]]:
    """The columns but the first in groups that fit beside it."""
    first, *widths = _widths(table)
    blocks: list[list[int]] = [[]]
    used = first
    for column, wide in enumerate(widths, start=1):
        if blocks[-1] and used + _GAP + wide > width:
            blocks.append([])
            used = first
        blocks[-1].append(column)
        used += _GAP + wide
    return blocks


def _drawn(table: Table, width: int, columns: Sequence[int]) -> str:
    drawn = RichTable(box=box.HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    texts = _texts(table)
    for column in columns:
        drawn.add_column(Text(texts[column][0]), no_wrap=not table.is_text(column), overflow="fold")
    for row in range(1, len(table.rows) + 1):
        drawn.add_row(*(Text(texts[column][row]) for column in columns))
    # In a notebook rich would draw into the page, and nothing into the text.
    out = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False, force_jupyter=False)
    out.print(drawn, soft_wrap=False)
    assert isinstance(out.file, io.StringIO)
    lines = [line.rstrip() for line in out.file.getvalue().rstrip("\n").split("\n")]
    return "\n".join([*lines, next(line for line in lines if set(line) == {"─"})])


def _texts(table: Table) -> list[list[str]]:
    """The columns as text, the heading of each first; shares, intervals and remarks flush among themselves."""
    columns: list[list[str]] = []
    for heading, cells in zip(table.heads, zip(*table.cells, strict=True), strict=True):
        intervals = [cell.interval(table.narrow) for cell in cells]
        shares = [_share(cell, table.narrow) for cell in cells]
        remarks = [
            " ".join([*(f"({mark})" for mark in cell.marks), cell.more, _settings(cell)]).strip() for cell in cells
        ]
        wide = [max(map(len, part), default=0) if any(intervals) else 0 for part in (shares, intervals, remarks)]
        lines = []
        for share, interval, remark in zip(shares, intervals, remarks, strict=True):
            if not interval and not remark:
                lines.append(share)
                continue
            beside = f" {interval:>{wide[1]}}" if wide[1] else ""
            more = f" {remark:<{wide[2]}}" if remark or wide[2] else ""
            lines.append(f"{share:>{wide[0]}}{beside}{more}")
        flush = str.ljust if table.is_text(len(columns)) else str.rjust
        widest = max(map(len, (heading.text, *lines)))
        columns.append([flush(text, widest) for text in (heading.text, *lines)])
    return columns


def _share(cell: Cell, narrow: bool) -> str:
    return cell.text.removesuffix("%") if narrow and (cell.rate or cell.share is not None) else cell.text


def _settings(cell: Cell) -> str:
    return ", ".join(f"{name} {plain(value)}" for name, value in (cell.chips or {}).items())


def _widths(table: Table, broken: bool = False) -> list[int]:
    """How wide each column is; at least so many where words are broken."""
    widths = [len(column[0]) for column in _texts(table)]
    return [min(width, _SHORTEST) if broken and table.is_text(place) else width for place, width in enumerate(widths)]
