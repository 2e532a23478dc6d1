"""What differs between two states of a set, as JSON and as a page with the pictures of the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from robustml.errors import RequestError
from robustml.reporting.pages.template import Section, Tile, write_page
from robustml.reporting.tables.cells import Cell, Row, Table
from robustml.reporting.tables.integrity import counts_of, sides_table
from robustml.results.integrity import Comparison, RecordChange
from robustml.results.reading import write_checked

# A page is for people: beyond so many records it names the file that has them all.
_MOST_ROWS, _MOST_DRAWN = 500, 60


@dataclass(frozen=True)
class Drawn:
    """A record with what it was and what it is: data URIs, "" where there is no picture of it."""

    change: RecordChange
    before: str
    after: str


def write_comparison(found: Comparison, out: Path, pictures: Mapping[str, str] | None = None) -> None:
    """Write a comparison: as JSON, as a page, or both.

    Args:
        found: the comparison.
        out: a file whose name ends in .json or .html; or a folder, for diff.json and diff.html in it.
        pictures: data URIs by the digest of the input.

    Raises:
        RequestError: see `check_out`.
        RunFailed: it cannot be written.
    """
    check_out(out)
    if out.suffix != ".html":
        write_checked(found, out if out.suffix else out / "diff.json")
    if out.suffix != ".json":
        _write_page(found, out if out.suffix else out / "diff.html", pictures or {})


def check_out(out: Path | None) -> Path | None:
    """Where a comparison is to be written, refused with a RequestError where its name says neither JSON nor a page."""
    if out is not None and out.suffix not in ("", ".json", ".html"):
        raise RequestError(f"out={out} must end in .json or .html, or name a folder for both")
    return out


def _write_page(found: Comparison, path: Path, pictures: Mapping[str, str]) -> Path:
    drawn = [Drawn(change, *(pictures.get(digest or "", "") for digest in change.digests)) for change in found.records]
    shown = [each for each in drawn if each.before or each.after][:_MOST_DRAWN]
    rows: list[Row] = [[change.file, change.change] for change in found.files[:_MOST_ROWS]]
    files = Section("Files", [Table(["file", "change"], rows, words=frozenset({"change"}))] if rows else [])
    left = len(found.records) - _MOST_ROWS
    note = f"{left:,} records more are in the JSON file: out=diff.json." if left > 0 else ""
    records = [_row(change) for change in found.records[:_MOST_ROWS]]
    headings = ["record", "change", "what", "file"]
    table = Table(headings, records, words=frozenset(headings))
    if not any(change.file for change in found.records):
        table = table.without(["file"])
    return write_page(
        path,
        "integrity.html.j2",
        kind="difference of two states of a set",
        kicker="Difference of two states of a set",
        heading=found.new.name,
        stamp=found.old.created[:16].replace("T", " "),
        tiles=_tiles(found),
        same=found.same,
        trouble=found.old.trouble,
        sides=sides_table(found),
        files=files,
        records=Section("Records", [table] if records else [], note),
        drawn=shown,
        undrawn=len(found.records) - len(shown) if shown else 0,
    )


def _tiles(found: Comparison) -> list[Tile]:
    kinds = counts_of(found.records)
    of = "" if found.old.records is None else f"of {found.old.records:,}"
    by = found.old.signed_by
    return [
        Tile(
            "Records that differ",
            f"{len(found.records):,}",
            f"{of}{': ' if of and kinds else ''}{kinds}",
            css="alarm" if found.records else "fine",
        ),
        Tile("Files that differ", f"{len(found.files):,}", css="alarm" if found.files else "fine"),
        Tile("The old state is signed by", by or "nobody trusted", css="fine" if by else "alert"),
    ]


def _row(change: RecordChange) -> Row:
    return [change.record, Cell(change.change, level="alarm"), _what(change), change.file or None]


def _what(change: RecordChange) -> str:
    """What changed, without the word that stands beside it."""
    return change.what.removeprefix(change.change).removeprefix(";").strip()
