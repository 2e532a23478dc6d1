"""Sets of numbers in Parquet files: one list of features a row."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.sources.lists import stacked
from robustml.data.sources.parquet import class_names_of, classes_of, read_columns
from robustml.data.splits import Split, part_of
from robustml.data.understood import Understood
from robustml.errors import RequestError


@dataclass(frozen=True)
class ParquetFeatures:
    """Vectors, waveforms or whatever else is no picture, in [0, 1] already, as `robustml poison` writes them.

    Args:
        train: the file of the training part.
        test: the file of the test part; None holds out a stratified fifth of `train`.
        features: the column of lists of numbers, all of one length; their shape stands in the file's metadata.
        label: the column of labels; class names come from the file's Hub metadata, else from the labels of `train`.
    """

    train: str
    test: str | None = None
    features: str = "features"
    label: str = "label"

    def files(self, split: Split) -> tuple[Path, ...]:
        """Both files: class names come from the training part."""
        return tuple(Path(path) for path in (self.train, self.test) if path is not None)

    def load(self, split: Split) -> Records:
        """Inputs (N, ...), float32.

        Raises:
            RequestError: on a file that cannot be read, an unknown column, a bad label, or lists of several lengths.
        """
        path = self.train if self.test is None or split == "train" else self.test
        table = read_columns(Path(path), [self.features, self.label])
        names = None if path == self.train else classes_of(self.train, self.label)
        coded, values = class_names_of(table.schema, self.label), table[self.label].to_pylist()
        y, names = encode_labels(values, names, lambda row: f"{path}, row {row}", coded=coded)
        x = self._inputs(table, path)
        understood = Understood({"inputs": f"{'x'.join(map(str, x.shape[1:]))}, {x.min():g} to {x.max():g}"})
        rows = torch.arange(len(y)) if self.test is not None else part_of(y, split)
        return Records(x[rows], y[rows], names, understood, rows)

    def _inputs(self, table: pa.Table, path: str) -> torch.Tensor:
        if len(table) == 0:
            raise RequestError(f"{path}: expected at least one row, found none")
        values = stacked(table[self.features], self.features, path).astype(np.float32)
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
