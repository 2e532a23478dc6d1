"""What a search for shortcuts found: a table for the terminal, and a page with heat maps and the marks in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robustml.reporting.figures.look import Chart
from robustml.reporting.figures.shortcuts import Suspect, suspects_grid
from robustml.reporting.formats import percent
from robustml.reporting.pages.links import link_to_run, stamp
from robustml.reporting.pages.template import Section, Tile, write_page
from robustml.reporting.tables.cells import Cell, Row, Table
from robustml.reporting.tables.text import table_text, wrapped
from robustml.results import ShortcutSearch

# Classes that are drawn; the table names them all.
_MOST_DRAWN = 6


def suspects_text(suspects: Sequence[Suspect], threshold: float, width: int | None = None) -> str:
    """What was found, and each class's most suspect place, as plain text."""
    return f"{wrapped([_verdict(suspects, threshold)], width)}\n{table_text(_table(suspects), width)}"


def _verdict(suspects: Sequence[Suspect], threshold: float) -> str:
    """One sentence on what was found."""
    found = [each.figures for each in suspects if each.figures.found]
    if not found:
        return f"no shortcut found: no place lies {100 * threshold:.3g} points above the median place of its class"
    parts = [
        f"a patch at {list(each.place)} turns {percent(each.flip_rate.value)} of {each.flip_rate.n:,} other pictures "
        f"into {each.class_name}"
        for each in found
    ]
    return f"{len(found)} found: {'; '.join(parts)}"


def _table(suspects: Sequence[Suspect]) -> Table:
    rows: list[Row] = [
        [
            Cell(each.class_name, marks=("found",) if each.found else ()),
            str(list(each.place)),
            each.flip_rate,
            percent(each.excess),
        ]
        for each in (suspect.figures for suspect in suspects)
    ]
    headings = ["class", "row, column", "pictures turned", "beyond the median place"]
    return Table(headings, rows, words=frozenset({"row, column"}))


def _tile(name: str, suspects: Sequence[Suspect]) -> Tile:
    """The place that turns most pictures."""
    worst = max((each.figures for each in suspects), key=lambda each: each.excess, default=None)
    if worst is None:
        return Tile(f"Shortcuts, {name}", "none", "nothing to search")
    found = sum(each.figures.found for each in suspects)
    more = f"turned into {worst.class_name} by one patch; {found} of {len(suspects)} classes have a shortcut"
    css = "alarm" if found else "fine"
    return Tile(f"Pictures turned, {name}", percent(worst.flip_rate.value), more, worst.flip_rate.value, css)


def write_shortcut_page(report: ShortcutSearch, searches: Mapping[str, Sequence[Suspect]], path: Path) -> Path:
    """Write the page.

    Args:
        report: what shortcuts.json holds.
        searches: name of a model to its suspects, the worst first, with what there is to draw.
        path: the file to write.

    Returns:
        `path`.
    """
    caption = (
        "Heat map: each pixel shows the largest share of other pictures that any patch covering it turned into the "
        "class. The box is the most suspect place."
    )
    found = [
        (
            _verdict(suspects, report.threshold),
            Section(
                name.capitalize(),
                [_table(suspects)],
                charts=[Chart(suspects_grid(suspects[:_MOST_DRAWN]), caption)],
            ),
        )
        for name, suspects in searches.items()
    ]
    heading = Path(report.run).name if Path(report.run).is_absolute() else report.run
    return write_page(
        path,
        "shortcuts.html.j2",
        kind="shortcuts",
        kicker=f"Search for shortcuts · {report.data.name}",
        heading=heading,
        stamp=stamp([report.data], [report.environment]),
        back=link_to_run(path.parent.parent.parent, path),
        tiles=[_tile(name, suspects) for name, suspects in searches.items()],
        searches=found,
        threshold=report.threshold,
    )
