"""Columns of lists of numbers as one array in which every row keeps its own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robustml.errors import RequestError


def stacked(column: pa.ChunkedArray, name: str, where: str) -> NDArray[Any]:
    """The rows of a column of lists, or of lists of lists, as one array (N, D) or (N, D, E, ...).

    Args:
        column: lists of any kind, of numbers of any kind.
        name: of the column, for messages.
        where: the file, for messages.

    Raises:
        RequestError: it holds anything else; or a row is longer or shorter than the others, or lacks a number.
    """
    if not _is_list(column.type):
        raise RequestError(f"{where}: the column {name!r} holds {column.type}, not lists of numbers; name another one")
    return _stacked(column.combine_chunks(), np.arange(len(column)), name, where)


def _is_list(kind: pa.DataType) -> bool:
    kind = getattr(kind, "storage_type", kind)  # arrays of one shape are an extension of Arrow's lists
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _stacked(values: Any, rows: NDArray[np.int64], name: str, where: str) -> NDArray[Any]:
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
        inner = _stacked(values.flatten(), np.repeat(rows, usual), name, where)
        return inner.reshape(len(values), usual, *inner.shape[1:])
    kind = values.type
    if pa.types.is_decimal(kind):
        return np.asarray(values.to_numpy(zero_copy_only=False).astype(np.float64))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise RequestError(f"{where}: the column {name!r} holds lists of {kind}, not of numbers; name another one")
    return np.asarray(values.to_numpy(zero_copy_only=False))
