"""A table for people, before anything draws it: the pages and the terminal show the same cells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robustml.reporting.formats import NOTHING, half_width, percent
from robustml.results import Rate


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table.

    Attributes:
        text: what it says; of a rate, its percentage.
        rate: a share with its interval, drawn as a bar.
        more: said beside it in small print.
        marks: words that stand out beside it.
        level: how grave it is: "fine", "caution" or "alarm".
        best: whether nothing that it is compared with is better; None where nothing is compared.
        clean: whether it is an accuracy that nobody attacked, drawn paler.
        share: a fraction that has no interval.
        hint: a rate whose interval is said when the cell is pointed at.
        chips: settings by name.
        digests: lines in small letters of one width.
        link: where the text leads: a place on the page ("#id") or another page.
    """

    text: str = NOTHING
    rate: Rate | None = None
    more: str = ""
    marks: tuple[str, ...] = ()
    level: str = ""
    best: bool | None = None
    clean: bool = False
    share: float | None = None
    hint: Rate | None = None
    chips: Mapping[str, Any] | None = None
    digests: tuple[str, ...] = ()
    link: str = ""

    def interval(self, narrow: bool) -> str:
        """The 95% interval of a rate, or where room is short its half width; "" without a rate."""
        if self.rate is None or self.rate.value is None:
            return ""
        low, high = (100 * bound for bound in self.rate.ci95)
        return f"±{100 * (half_width(self.rate) or 0):.1f}" if narrow else f"{low:.1f} to {high:.1f}"


# Of a comparison whose cells hold a share and its interval.
MOST_COLUMNS = 7
# None is a dash.
Content = Cell | Rate | str | None


def cell_of(content: Content, **changes: Any) -> Cell:
    """A cell of whatever may stand in a table."""
    if isinstance(content, Rate):
        content = Cell(percent(content.value), rate=content)
    elif not isinstance(content, Cell):
        content = Cell(NOTHING if content is None else content)
    return replace(content, **changes) if changes else content


Row = Sequence[Content]


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell of a row names it.

    Attributes:
        headings: of all columns.
        rows: cells in the order of the headings.
        words: headings of the columns that hold words; the first column does, all others hold numbers.
        leads: places of the rows that lead.
        total: whether the last row sums the others up.
        narrow: intervals as ±, not from low to high.
        shaded: draw a share the bluer the higher it is, as a heat map does.
        note: what must be known to read it.
    """

    headings: Sequence[str | Cell]
    rows: Sequence[Row]
    words: frozenset[str] = frozenset()
    leads: frozenset[int] = frozenset()
    total: bool = False
    narrow: bool = False
    shaded: bool = False
    note: str = ""

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, every content as a cell."""
        return [[cell_of(content) for content in row] for row in self.rows]

    @property
    def heads(self) -> list[Cell]:
        """The headings, every one as a cell."""
        return [cell_of(heading) for heading in self.headings]

    def is_text(self, column: int) -> bool:
        """Whether a column holds words."""
        return column == 0 or self.heads[column].text in self.words

    def turned(self) -> Table:
        """Columns as rows: for a table of few rows and many columns."""
        columns = [*zip(self.heads, *self.cells, strict=True)][1:]
        headings: list[str | Cell] = ["", *(row[0] for row in self.cells)]
        return replace(self, headings=headings, rows=columns, words=frozenset(), leads=frozenset(), total=False)

    def without(self, headings: Collection[str]) -> Table:
        """The other columns: for where room is short."""
        kept = [place for place, head in enumerate(self.heads) if head.text not in headings]
        rows = [[row[place] for place in kept] for row in self.rows]
        return replace(self, headings=[self.headings[place] for place in kept], rows=rows)

    @property
    def across(self) -> Table:
        """As it fits a page: turned where it has more columns than a page has room for, and fewer rows."""
        return self.turned() if len(self.headings) > MOST_COLUMNS and len(self.rows) < MOST_COLUMNS else self


def bests(values: Sequence[float | None]) -> list[bool]:
    """Which of the values is the highest of two or more."""
    known = [value for value in values if value is not None]
    return [len(known) > 1 and value == max(known) for value in values]
