"""Sets of numbers in Parquet files: one list of features a row, in which every row keeps its own numbers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from robustml.data.records import Records
from robustml.data.sources.parquet import labels_of, read_columns, training_classes
from robustml.data.sources.parts import InFiles
from robustml.data.sources.stored import StoredRecords
from robustml.data.sources.stored_parquet import classes_in, parquet_records
from robustml.data.splits import Split
from robustml.data.understood import Understood
from robustml.errors import RequestError


@dataclass(frozen=True)
class ParquetFeatures(InFiles):
    """Vectors, waveforms or whatever else is no picture, in [0, 1] already, as `robustml poison` writes them.

    Arguments as of `InFiles`, and:

    Args:
        features: the column of lists of numbers, all of one length; their shape stands in the file's metadata.
        label: the column of labels; class names come from the file's Hub metadata, else from the labels of `train`.
    """

    features: str = "features"
    label: str = "label"

    def load(self, split: Split) -> Records:
        """Inputs (N, ...), float32.

        Raises:
            RequestError: on a file that cannot be read, an unknown column, a bad label, or lists of several lengths.
        """
        path = str(self.path(split))
        table = read_columns(self.path(split), [self.features, self.label])
        y, names = labels_of(table, self.label, path, training_classes(self, self.label, split))
        x = self._inputs(table, path)
        understood = Understood({"inputs": f"{'x'.join(map(str, x.shape[1:]))}, {x.min():g} to {x.max():g}"})
        rows = self.rows(y, split)
        return Records(x[rows], y[rows], names, understood, rows)

    def stored(self, split: Split) -> StoredRecords:
        """One record a row: the bytes of its numbers."""
        return parquet_records(self.path(split), split, self.features, self.label)

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """Those that the file's metadata names."""
        return classes_in(self.path(split), self.label)

    def _inputs(self, table: pa.Table, path: str) -> torch.Tensor:
        if len(table) == 0:
            raise RequestError(f"{path}: expected at least one row, found none")
        values = _array(table[self.features], self.features, path).astype(np.float32)
        rows = values.reshape(len(values), -1)
        shape = _shape_in(path) or list(values.shape[1:])
        if math.prod(shape) != rows.shape[1]:
            raise RequestError(
                f"{path}: its metadata gives inputs of the shape {shape}, but a row of {self.features!r} holds "
                f"{rows.shape[1]} numbers; write the file anew"
            )
        wrong = ~((rows >= 0) & (rows <= 1))  # written so that a NaN is wrong too
        if wrong.any():
            row = int(wrong.any(axis=1).argmax())
            raise RequestError(
                f"{path}, row {row}: expected numbers in [0, 1] in {self.features!r}, got "
                f"{rows[row][wrong[row]][0]:g}; scale the column, or fill in what is missing"
            )
        return torch.from_numpy(rows).view(len(rows), *shape)


def _shape_in(path: str) -> list[int] | None:
    """The shape of an input as `robustml poison` wrote it into the file's metadata; None where it did not."""
    written = (pq.read_schema(path).metadata or {}).get(b"shape")
    if written is None:
        return None
    try:
        shape = json.loads(written)
    except ValueError:
        shape = written
    if not isinstance(shape, list) or not all(type(length) is int and length > 0 for length in shape):
        raise RequestError(f"{path}: the shape in its metadata is none: {shape!r}; write the file anew")
    return shape


def _array(column: pa.ChunkedArray, name: str, where: str) -> NDArray[Any]:
    """The rows of a column of lists, or of lists of lists, as one array (N, D) or (N, D, E, ...)."""
    if not _is_list(column.type):
        raise RequestError(f"{where}: the column {name!r} holds {column.type}, not lists of numbers; name another one")
    return _rows(column.combine_chunks(), np.arange(len(column)), name, where)


def _is_list(kind: pa.DataType) -> bool:
    kind = getattr(kind, "storage_type", kind)  # arrays of one shape are an extension of Arrow's lists
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _rows(values: Any, rows: NDArray[np.int64], name: str, where: str) -> NDArray[Any]:
    """`values`, each of which belongs to one of the `rows` of the file."""
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    if values.null_count:
        row = rows[pc.is_null(values).to_numpy(zero_copy_only=False)][0]
        raise RequestError(f"{where}, row {row}: a value of {name!r} is missing (null); fill it in or drop the row")
    if _is_list(values.type):
        lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        counts = np.bincount(lengths)
        usual = int(lengths[0] if counts[lengths[0]] == counts.max() else counts.argmax())
        odd = np.flatnonzero(lengths != usual)
        if len(odd):
            raise RequestError(
                f"{where}, row {rows[odd[0]]}: expected {usual} values in {name!r}, as in most rows, got "
                f"{lengths[odd[0]]}; make all rows of one length"
            )
        if not usual:
            raise RequestError(f"{where}: the lists in {name!r} are empty")
        inner = _rows(values.flatten(), np.repeat(rows, usual), name, where)
        return inner.reshape(len(values), usual, *inner.shape[1:])
    kind = values.type
    if pa.types.is_decimal(kind):
        return np.asarray(values.to_numpy(zero_copy_only=False).astype(np.float64))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise RequestError(f"{where}: the column {name!r} holds lists of {kind}, not of numbers; name another one")
    return np.asarray(values.to_numpy(zero_copy_only=False))
