"""The rows of a Parquet file as they are stored, group after group; what cannot be read is named and passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustml.data.sources.stored import INPUT, LABEL, Damaged, Stored, StoredRecords
from robustml.errors import RequestError
from robustml.files import opened

# What pyarrow raises on damaged files, by what is damaged.
_BROKEN = (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, OverflowError)
_ROWS = 1024
# As many bytes are read ahead of a column.
_BUFFER = 2**20
# A record takes bits at least; one that is repeated without end takes none.
ROWS_A_BYTE = 8


def parquet_records(path: Path, part: str, source: str, label: str) -> StoredRecords:
    """The rows of a file.

    Args:
        path: the file.
        part: which it is.
        source: the column of inputs. Of encoded images it may be a struct: its bytes, else those of the file at its
            path, are the input, and the path is a field of its own.
        label: the column of labels; numbers that stand for names, as the file itself says, are given as those.
    """
    names: tuple[str, ...] | None = None
    for row, batch in _batches(path):
        if isinstance(batch, _Broken):
            yield Damaged(part, row, batch.rows, "", batch.reason)
            continue
        if lacking := [column for column in (source, label) if column not in batch.schema.names]:
            yield Damaged(part, row, None, "", f"it has no column {lacking[0]!r}")
            return
        names = class_names_of(batch.schema, label) if names is None else names
        try:
            columns = _columns(batch, source, label, names)
        except _BROKEN as error:
            yield Damaged(part, row, batch.num_rows, "", _reason(error))
            continue
        for place, cells in enumerate(zip(*columns.values(), strict=True)):
            yield Stored(part, row + place, "", dict(zip(columns, cells, strict=True)))


def pictures_of(path: Path, source: str) -> Iterator[Path]:
    """The files that rows refer to instead of holding their bytes, as far as the file can be read."""
    for _, batch in _batches(path):
        if isinstance(batch, _Broken) or source not in batch.schema.names:
            continue
        kind = (column := batch.column(source)).type
        if pa.types.is_struct(kind) and min(kind.get_field_index(name) for name in ("bytes", "path")) >= 0:
            content, paths = (_cells(pc.struct_field(column, name)) for name in ("bytes", "path"))
            for held, name in zip(content, paths, strict=True):
                if held is None and name is not None:
                    yield Path(name.decode(errors="surrogateescape"))


def table_records(table: pa.Table, part: str, source: str, label: str) -> StoredRecords:
    """The rows of a table that another library keeps on the disk; arguments as of `parquet_records`."""
    names, row = class_names_of(table.schema, label), 0
    for batch in table.to_batches(_ROWS):
        columns = _columns(batch, source, label, names)
        for cells in zip(*columns.values(), strict=True):
            yield Stored(part, row, "", dict(zip(columns, cells, strict=True)))
            row += 1


def class_names_of(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """What `datasets` wrote about a `ClassLabel` column into the file, read without importing it."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(str(name) for name in described["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def classes_in(path: Path, label: str) -> tuple[str, ...] | None:
    """The classes that a Parquet file names in its metadata; None where it is none, or names none."""
    try:
        return class_names_of(pq.read_schema(path), label) if path.suffix.lower() == ".parquet" else None
    except _BROKEN:
        return None


class _Broken(NamedTuple):
    rows: int | None
    reason: str


def _batches(path: Path) -> Iterator[tuple[int, pa.RecordBatch | _Broken]]:
    """Each batch with its first row."""
    try:
        with opened(path) as opened_file:
            size = opened_file.seek(0, 2)
        # Buffered, not whole groups at once: some files are one group.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
    except (*_BROKEN, RequestError) as error:
        yield 0, _Broken(None, _reason(error))
        return
    with file:
        if file.metadata.num_rows > ROWS_A_BYTE * size:
            yield 0, _Broken(None, f"{size:,} bytes that claim to hold {file.metadata.num_rows:,} rows")
            return
        first = 0
        for group in range(file.metadata.num_row_groups):
            rows, done = file.metadata.row_group(group).num_rows, 0
            try:
                for batch in file.iter_batches(_ROWS, row_groups=[group], use_threads=False):
                    yield first + done, batch
                    done += batch.num_rows
            except _BROKEN as error:
                # one by one up to the row that is broken; what lies behind it in its group has no beginning any more
                for row, one in _up_to_broken(path, group):
                    if row == done:
                        yield first + row, one
                        done += 1
                yield first + done, _Broken(max(rows - done, 0), _reason(error))
            first += rows


def _up_to_broken(path: Path, group: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
        try:
            yield from enumerate(file.iter_batches(1, row_groups=[group], use_threads=False))
        except _BROKEN:
            return


def _columns(
    batch: pa.RecordBatch, source: str, label: str, names: tuple[str, ...] | None
) -> dict[str, list[bytes | None]]:
    """The cells of each column, by the field that it is."""
    columns: dict[str, list[bytes | None]] = {}
    for name in batch.schema.names:
        column = batch.column(name)
        if name == label:
            columns[LABEL] = [_named(cell, names) for cell in _cells(column)]
        elif name == source:
            columns |= _inputs(column)
        else:
            columns[name if name not in (INPUT, LABEL) else f"{name}_"] = _cells(column)
    return columns


def _inputs(column: pa.Array) -> dict[str, list[bytes | None]]:
    kind = column.type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return {INPUT: _cells(column)}
    content = _cells(pc.struct_field(column, "bytes"))
    if kind.get_field_index("path") < 0:
        return {INPUT: content}
    paths = _cells(pc.struct_field(column, "path"))
    read = [_content(path) if held is None else held for held, path in zip(content, paths, strict=True)]
    return {INPUT: read, "path": paths}


def _content(path: bytes | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path.decode(errors="surrogateescape")).read_bytes()
    except (OSError, ValueError):
        return None


def _named(cell: bytes | None, names: tuple[str, ...] | None) -> bytes | None:
    """A label by its name, where the file has one for the number."""
    if cell is None or names is None or not cell.isdigit() or len(cell) > 9 or int(cell) >= len(names):
        return cell
    return names[int(cell)].encode(errors="surrogateescape")


def _cells(column: pa.Array) -> list[bytes | None]:
    """Text and bytes as they are; lists of numbers as their array has them; anything else as text."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _cells(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_binary())
        kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return list(column.to_pylist())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if (pa.types.is_integer(inner) or pa.types.is_floating(inner)) and not column.flatten().null_count:
            return _arrays(column)
    return [None if value is None else _text(value) for value in column.to_pylist()]


def _arrays(column: pa.Array) -> list[bytes | None]:
    values = np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False))
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    return [
        None if gone else values[end - length : end].tobytes()
        for end, length, gone in zip(ends, lengths, missing, strict=True)
    ]


def _text(value: Any) -> bytes:
    return (str(value) if isinstance(value, int) else repr(value)).encode(errors="surrogateescape")


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
