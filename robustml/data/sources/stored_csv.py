"""The rows of a CSV file as they are stored, read as a stream: each cell in the bytes that it has in UTF-8."""

from __future__ import annotations

import csv
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path

from robustml.data.sources.stored import INPUT, LABEL, Damaged, Stored, StoredRecords
from robustml.data.sources.table import streamed_rows
from robustml.errors import RequestError
from robustml.files import opened

_BROKEN = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, csv.Error, RequestError)
# A wider table is one input: a digest of each of its cells would be larger than itself.
_MOST_COLUMNS = 64


def csv_records(
    path: Path,
    part: str,
    label: str,
    *,
    text: str | None = None,
    image: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> StoredRecords:
    """The rows of a file.

    Args:
        path: the file.
        part: which it is.
        label: the column of labels.
        text: the column of texts, which are the inputs; or else
        image: the column of paths of pictures, relative to the file, whose bytes are the inputs; or else every column
            but the label is a part of the input.
        separator: what stands between cells; None finds out.
        encoding: of the file; None finds out.
    """
    row = 0
    try:
        rows = streamed_rows(path, [label, *filter(None, (text, image))], separator, encoding)
        fields = _fields([name.strip() for name in next(rows, [])], label, text or image, path)
        for row, cells in enumerate(rows):  # where it breaks is said below
            record = _record(fields, cells)
            if image is not None:
                picture = path.parent / (record[INPUT] or b"").decode(errors="surrogateescape").strip()
                try:
                    with opened(picture) as file:
                        record |= {"path": record[INPUT], INPUT: file.read()}
                except RequestError as error:
                    yield Damaged(part, row, 1, "", str(error))
                    continue
            yield Stored(part, row, "", record)
    except _BROKEN as error:
        yield Damaged(part, row, None, "", str(error) or type(error).__name__)


def csv_pictures(path: Path, label: str, image: str, separator: str | None, encoding: str | None) -> Iterator[Path]:
    """The pictures that a file lists, as far as it can be read; arguments as of `csv_records`."""
    try:
        rows = streamed_rows(path, [label, image], separator, encoding)
        place = [name.strip() for name in next(rows, [])].index(image)
        for cells in rows:
            if len(cells) > place and cells[place].strip():
                yield path.parent / cells[place].strip()
    except _BROKEN:
        return


def _fields(header: list[str], label: str, source: str | None, path: Path) -> list[str]:
    """What field each column is."""
    for needed in filter(None, (label, source)):
        if header.count(str(needed)) != 1:
            raise RequestError(f"{path}: expected one column {needed!r}, got {header.count(str(needed))}")
    fields: list[str] = []
    for place, cell in enumerate(header):
        name = cell.encode(errors="surrogateescape").decode(errors="backslashreplace")
        if name == str(label):
            fields.append(LABEL)
        elif name == source or (source is None and len(header) > _MOST_COLUMNS):
            fields.append(INPUT)
        else:
            field = f"{INPUT}.{name}" if source is None else name if name not in (INPUT, LABEL, "path") else f"{name}_"
            fields.append(field if field not in fields else f"{field} ({place})")
    return fields


def _record(fields: list[str], cells: list[str]) -> dict[str, bytes | None]:
    record: dict[str, bytes | None] = dict.fromkeys(fields)
    for place, cell in enumerate(cells):
        content = cell.encode(errors="surrogateescape")
        # what stands beyond the header belongs to the last column; cells that are one input are apart by a zero
        field = fields[min(place, len(fields) - 1)]
        before = record[field]
        record[field] = content if before is None else before + b"\0" + content
    return record
