"""Sets of numbers in Parquet files: one list of features a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from robustml.data.arrays import Arrays
from robustml.data.labels import encode_labels
from robustml.data.sources.parquet import class_names_of, classes_of, read_columns
from robustml.data.splits import Split, part_of
from robustml.errors import RequestError

__all__ = ["ParquetFeatures"]


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

    def load(self, split: Split) -> Arrays:
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
        if self.test is not None:
            return Arrays(x, y, names)
        rows = part_of(y, split)
        return Arrays(x[rows], y[rows], names)

    def _inputs(self, table: pa.Table, path: str) -> torch.Tensor:
        column = table[self.features].combine_chunks()
        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
            raise RequestError(f"{path}: the column {self.features!r} holds {column.type}, not lists of numbers")
        values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        if len(table) == 0 or len(values) % len(table):
            raise RequestError(f"{path}: expected lists of one length in {self.features!r}, and at least one row")
        shape = json.loads((pq.read_schema(path).metadata or {}).get(b"shape", b"null")) or [len(values) // len(table)]
        return torch.from_numpy(values.copy()).view(len(table), *shape)
