"""A row of a Parquet file keeps its own numbers, whatever the lists are like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustml.data import ParquetFeatures
from robustml.errors import RequestError

VALUES = [[0.0, 0.25, 0.5, 1.0], [1.0, 0.75, 0.5, 0.0], [0.5, 0.5, 0.25, 0.25]]


def write(path: Path, values: pa.Array, metadata: dict[str, str] | None = None) -> ParquetFeatures:
    labels = pa.array([str(row % 2) for row in range(len(values))])
    table = pa.table({"features": values, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, path / "a.parquet", row_group_size=2)
    return ParquetFeatures(str(path / "a.parquet"), str(path / "a.parquet"))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.list_(pa.float16()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 4),
        pa.list_(pa.decimal128(4, 2)),
        pa.list_(pa.list_(pa.float32())),
        pa.list_(pa.list_(pa.float32(), 2), 2),
        pa.large_list(pa.list_(pa.float64(), 2)),
    ],
    ids=str,
)
def test_lists_of_every_kind(tmp_path, kind):
    nested = pa.types.is_nested(kind.value_type)
    values = [[row[:2], row[2:]] if nested else row for row in VALUES]
    content = (
        pa.array(values, kind) if "decimal" not in str(kind) else pa.array(values, pa.list_(pa.float64())).cast(kind)
    )
    arrays = write(tmp_path, content).load("train")
    x = arrays.x
    assert arrays.understood.lines() == [f"inputs {'2x2' if nested else 4}, 0 to 1"]
    assert x.shape == ((3, 2, 2) if nested else (3, 4))
    np.testing.assert_array_equal(x.reshape(3, 4).numpy(), np.array(VALUES, np.float32))


@pytest.mark.parametrize("kind", [pa.uint8(), pa.int64(), pa.bool_()], ids=str)
def test_whole_numbers(tmp_path, kind):
    bits = [[0, 1, 1], [1, 0, 0]]
    assert write(tmp_path, pa.array(bits).cast(pa.list_(kind))).load("train").x.tolist() == bits


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([[0.1, 0.2], [0.3], [0.4, 0.5, 0.6]], "row 1: expected 2 values in 'features', as in most rows, got 1"),
        ([[0.1, 0.2, 0.3], [0.3], [0.4, 0.5]], "row 0: expected 1 values|row 1: expected"),
        ([[0.1], [0.3, 0.4], [0.4, 0.5]], "row 0: expected 2 values in 'features', as in most rows, got 1"),
        ([[0.1, None], [0.3, 0.4], [0.5, 0.6]], r"row 0: a value of 'features' is missing \(null\)"),
        ([[0.1, 0.2], [0.3, None], [0.5]], "row 2: expected 2 values"),
        ([[0.1, 0.2], None, [0.3, 0.4]], r"row 1: a value of 'features' is missing \(null\)"),
        ([[0.1, 0.2], None, [0.3, 0.4, 0.5, 0.6]], "row 1: a value"),
        ([[0.1], [], [0.3, 0.4]], "row 0: expected 0 values|row 1: expected|row 2: expected"),
        ([[], []], "the lists in 'features' are empty"),
        ([[0.1, 0.2], [0.3, float("nan")]], r"row 1: expected numbers in \[0, 1\] in 'features', got nan"),
        ([[0.1, 0.2], [float("inf"), 0.3]], r"row 1: expected numbers in \[0, 1\] in 'features', got inf"),
        ([[0.1, 0.2], [0.3, 4.0]], r"row 1: expected numbers in \[0, 1\] in 'features', got 4"),
        ([["a"], ["b"]], "holds lists of string, not of numbers"),
        ([0.1, 0.2], "holds double, not lists of numbers"),
        ([], "expected at least one row|not lists of numbers"),
        ([[[0.1, 0.2]], [[0.3], [0.4]]], "row 1: expected 1 values in 'features', as in most rows, got 2"),
        ([[[0.1], [0.2]], [[0.3], [0.4, 0.5]]], "row 1: expected 1 values in 'features', as in most rows, got 2"),
        ([[[0.1], [0.2]], [[0.3], None]], "row 1: a value of 'features' is missing"),
        ([[[0.1], [0.2]], [[0.3], [None]]], "row 1: a value of 'features' is missing"),
    ],
)
def test_what_is_no_row_of_the_others_shape_is_named(tmp_path, values, says):
    """The flattened values were cut anew whenever their number allowed it: every row was wrong."""
    source = write(tmp_path, pa.array(values))
    with pytest.raises(RequestError, match=says) as caught:
        source.load("train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", ["[2, 3]", "[4", "[0]", "{}", "[2.0, 2]", "[-2, -2]"])
def test_a_shape_that_is_not_the_rows_is_refused(tmp_path, shape):
    with pytest.raises(RequestError, match="its metadata"):
        write(tmp_path, pa.array(VALUES), {"shape": shape}).load("train")
    assert write(tmp_path, pa.array(VALUES), {"shape": "[1, 2, 2]"}).load("train").x.shape == (3, 1, 2, 2)


def test_a_row_that_is_repeated_without_end_is_refused(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000_000, np.int32)), pa.array(["x"]))
    pq.write_table(pa.table({"features": column, "label": column}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(RequestError, match=r"claim to hold 20,000,000 rows"):
        ParquetFeatures(str(tmp_path / "a.parquet")).load("train")
