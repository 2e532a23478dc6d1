"""Sets of numbers in Parquet files: one list of features a row."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from robustml.data.records import Records
from robustml.data.sources.lists import stacked
from robustml.data.sources.parquet import labels_of, read_columns, training_classes
from robustml.data.sources.parts import InFiles
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
