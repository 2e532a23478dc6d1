"""What differs between two states of a set, in lines for a terminal: the records by their ids, many in few lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustml.reporting.tables.cells import Cell, Row, Table
from robustml.reporting.tables.text import table_text
from robustml.results.integrity import Comparison, FileChange, RecordChange, Side


def change_lines(found: Comparison, most: int, out: str | None = None) -> list[str]:
    """A line for each file and record that differs; neighbours of which the same is to be said share one.

    Args:
        found: the comparison.
        most: so many lines at most, and one that says how much is left out.
        out: where all of it is written.
    """
    files = [str(change) for change in _files(found)]
    records = list(_in_ranges(found.records))
    room = max(most - len(files), most // 2)
    lines = [*files[: most - min(room, len(records))], *(line for line, _ in records[:room])]
    left = sum(count for _, count in records[room:])
    hidden = len(files) + min(room, len(records)) - len(lines)
    if left or hidden:
        where = f"{out} names them" if out else "out=report.json names them"
        parts = [f"{left:,} records" if left else "", f"{hidden:,} files" if hidden else ""]
        lines.append(f"... and {' and '.join(filter(None, parts))} more; {where}")
    return lines


def _files(found: Comparison) -> Iterator[FileChange]:
    """Those of which no record tells already."""
    told = {name for change in found.records if change.file for name in (change.file, change.now)}
    for change in found.files:
        parts = change.file.split("/")
        if told.isdisjoint("/".join(parts[start:]) for start in range(len(parts))):
            yield change


def _in_ranges(changes: Sequence[RecordChange]) -> Iterator[tuple[str, int]]:
    """Each line, and how many records it is about."""
    start = 0
    while start < len(changes):
        end, first = start + 1, changes[start]
        while end < len(changes) and _follows(changes[end - 1], changes[end]):
            end += 1
        count = end - start
        if count < 3:
            yield from ((str(change), 1) for change in changes[start:end])
        else:
            yield f"{first.record} to {changes[end - 1].record}: {first.what} ({count:,} records)", count
        start = end


def _follows(one: RecordChange, other: RecordChange) -> bool:
    (part, row), (next_part, next_row) = one.record.rsplit(" ", 1), other.record.rsplit(" ", 1)
    beside = part == next_part and row.isdigit() and next_row.isdigit() and int(next_row) == int(row) + 1
    return beside and one.what == other.what and not one.file and not other.file


def verified_line(found: Comparison) -> str:
    """What a verification comes to, in one line."""
    old = found.old
    by = (
        f"signed by {old.signed_by} ({old.fingerprint[:19]}...)" if old.signed_by else "not signed by anybody you trust"
    )
    said = f"manifest {old.what}, serial {old.serial}, {by}"
    if not found.same:
        other = "; no record is as signed (another set?)" if found.nothing_left else ""
        return f"not as signed: {_counted(found)} of {old.records:,} records{other}; {said}"
    if old.trouble:
        return f"not verified: every record is as the manifest says, but {old.trouble}"
    return f"as signed: {old.records:,} records, {found.new.name}; {said}"


def compared_line(found: Comparison) -> str:
    """What a comparison comes to, in one line."""
    return f"the same: {found.old.records:,} records" if found.same else f"{_counted(found)} differ"


def _counted(found: Comparison) -> str:
    files = f"{len(found.files):,} file{'s' * (len(found.files) != 1)}" if found.files else ""
    return "; ".join(filter(None, [files, counts_of(found.records) or "none"]))


def counts_of(changes: Sequence[RecordChange]) -> str:
    """How many of each kind: "3 altered, 1 deleted"."""
    kinds: dict[str, int] = {}
    for change in changes:
        kinds[change.change] = kinds.get(change.change, 0) + 1
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())


def sides_text(found: Comparison) -> str:
    """Both sides of a comparison, as a table in plain text."""
    return table_text(sides_table(found))


def sides_table(found: Comparison) -> Table:
    """Both sides of a comparison: what they are, and whose signature stands under them."""
    rows: list[Row] = [_side("old", found.old), _side("new", found.new)]
    headings = ["", "what", "records", "made", "serial", "signed by"]
    return Table(headings, rows, words=frozenset({"what", "made", "signed by"}))


def _side(name: str, side: Side) -> Row:
    signed: Cell | str = side.trouble or "not a manifest"
    if side.signed_by:
        signed = Cell(side.signed_by, more=side.fingerprint[:19] + "...")
    return [
        name,
        side.what,
        None if side.records is None else f"{side.records:,}",
        side.created[:16].replace("T", " ") or None,
        None if side.serial is None else str(side.serial),
        signed,
    ]
