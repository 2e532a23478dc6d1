"""Sets listed in CSV files: tables of numbers, or paths of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustml.data.decode import Pictures
from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.sources.cells import Cells, Choice, filled
from robustml.data.sources.columns import choose_columns, named_like_identifiers, read_features
from robustml.data.sources.parts import InFiles
from robustml.data.sources.stored import PartFiles, StoredRecords
from robustml.data.sources.stored_csv import csv_pictures, csv_records
from robustml.data.sources.table import Table, read_table
from robustml.data.splits import Split
from robustml.data.understood import Column, Understood, listed
from robustml.errors import RequestError

# Labels of which most stand for one row each are measurements, not classes.
_FEW = 20


@dataclass(frozen=True)
class Csv(InFiles, Choice, Pictures):
    """One row a sample, one column the label, whose cells are names as they are written: "01" is not "1".

    Without `image` every other column of numbers is a feature, in the order of the training file, scaled to [0, 1] by
    that file's least and greatest value; a constant column becomes 0, and values beyond the training file's are
    clipped. Columns of words, and those that number the rows, are no features: which ones, and why, is said at loading.
    The columns of the test file are found by name. Arguments as of `InFiles`, `Choice`, for images `Pictures`, and:

    Args:
        label: the column of labels.
        image: the column of image paths, relative to the CSV file.
        separator: what stands between cells; None finds out.
        decimal: ``"."`` or ``","``; None finds out.
        encoding: of the files; None reads UTF-8, and UTF-16 and UTF-32 where the file shows it.

    Raises:
        RequestError: an option is unknown.
    """

    label: str = "label"
    image: str | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None

    @property
    def fitted(self) -> bool:
        """Whether the training file decides on what the inputs mean: it scales the columns."""
        return self.image is None

    def files(self, split: Split) -> tuple[Path, ...]:
        """The CSV files, and the images that the one of `split` lists."""
        images = [] if self.image is None else self._paths(self._read(self.path(split)))
        return (*super().files(split), *images)

    def load(self, split: Split) -> Records:
        """Features (N, D), float32 in [0, 1], or images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: on a file that cannot be read, an unknown column, a cell that is no number in a column of
                numbers, a missing value, a bad label or image.
        """
        train = self._read(Path(self.train))
        path = self.path(split)
        table = train if path == Path(self.train) else self._read(path)
        if self.image is None:
            return self._numbers(train, table, split)
        y, names = self._labels(train, table, np.arange(len(table)))
        images, rows = self._paths(table), self.rows(y, split)
        x, understood = self.decode(images, lambda row: f"{table.where(row)}: {images[row]}", rows)
        return Records(x, y[rows], names, table.understood + understood, rows)

    def stored(self, split: Split) -> StoredRecords:
        """One record a row, with the bytes of the picture that it names."""
        kind = {"separator": self.separator, "encoding": self.encoding}
        return csv_records(self.path(split), split, self.label, image=self.image, **kind)

    def stored_files(self, split: Split) -> PartFiles:
        """The CSV file, and the pictures that it lists."""
        path = self.path(split)
        if self.image is None:
            return PartFiles(path, (path,))
        images = csv_pictures(path, self.label, self.image, self.separator, self.encoding)
        return PartFiles(path, (path, *sorted(set(images))))

    def _read(self, path: Path) -> Table:
        strings = [self.label] if self.image is None else [self.label, self.image]
        table = read_table(path, strings, separator=self.separator, decimal=self.decimal, encoding=self.encoding)
        table.place(self.label)
        return table

    def _labels(self, train: Table, table: Table, rows: NDArray[np.int64]) -> tuple[Tensor, tuple[str, ...]]:
        """The labels of `rows` of `table`, as numbers of the classes of the training file."""
        known = train.labels(train.place(self.label))
        count = len(set(known))
        if len(known) >= _FEW and 2 * count > len(known):
            raise RequestError(
                f"{train.path}: {self.label!r} has {count} different values in {len(known)} rows, so it names no "
                "classes; set data.source.label to the column that does"
            )
        _, names = encode_labels(known, None, train.where)
        values = table.labels(table.place(self.label))
        return encode_labels([values[row] for row in rows], names, lambda row: table.where(rows[row]))

    def _paths(self, table: Table) -> list[Path]:
        values = table.strings(table.place(self.image))
        for row, value in enumerate(values):
            if not value:
                raise RequestError(f"{table.where(row)}: expected an image path in {self.image!r}, found none")
        return [table.path.parent / value for value in values]

    def _numbers(self, train: Table, table: Table, split: Split) -> Records:
        known, ignored = choose_columns(train, self, [train.place(self.label)])
        learnt, train_rows = filled(train, known, self, None)
        cells, values, rows = known, learnt, train_rows
        if table is not train:
            cells = read_features(table, known, self)
            values, rows = filled(table, cells, self, learnt.mean(axis=0))
        low, high = learnt.min(axis=0), learnt.max(axis=0)
        scaled = (values - low) / np.where(high > low, high - low, 1.0)
        x = torch.from_numpy(np.clip(np.where(high > low, scaled, 0.0), 0, 1).astype(np.float32))
        y, names = self._labels(train, table, rows)
        columns = _described(cells, values)
        learnt_columns = columns if table is train else _described(known, learnt)
        notes = _notes(learnt_columns, learnt, y if table is train else self._labels(train, train, train_rows)[0])
        if len(rows) < len(table):
            notes.append(f"{len(table) - len(rows)} of {len(table)} rows lack a number and are left out")
        elif lost := sum(len(each.missing) for each in cells.values()):
            notes.append(f"{lost} missing numbers are the mean of their column in {train.path}")
        beyond = ((values < low) | (values > high)).sum(axis=0)
        if clipped := [f"{count} in {name}" for name, count in zip(known, beyond, strict=True) if count]:
            notes.append(f"values beyond those of the training file are clipped: {listed(clipped)}")
        if table is not train:
            others = [name for name in table.names if name not in train.names]
            ignored = dict.fromkeys(others, "not in the training file")
        understood = table.understood + Understood({}, columns, ignored, notes=tuple(notes))
        part = self.rows(y, split)
        return Records(x[part], y[part], names, understood, torch.from_numpy(rows)[part])


def _described(cells: dict[str, Cells], values: NDArray[np.float64]) -> tuple[Column, ...]:
    """The columns as the file has them; `values` (N, D) are their numbers with what is missing filled in."""
    ends = zip(values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True)
    return tuple(
        Column(name, low, high, len(np.unique(each.values)) - bool(len(each.missing)), len(each.missing))
        for (name, each), (low, high) in zip(cells.items(), ends, strict=True)
    )


def _notes(columns: Sequence[Column], values: NDArray[np.float64], y: Tensor) -> list[str]:
    """What is odd about the features of the training file: constant ones, and those that give the class away."""
    constant = [column.name for column in columns if column.low == column.high]
    notes = [f"constant, hence 0: {listed(constant)}"] if constant else []
    if numbers := named_like_identifiers([column.name for column in columns]):
        notes.append(f"used as features, though called like identifiers: {listed(numbers)}; data.source.ignore=[...]")
    classes = len(set(y.tolist()))
    if len(y) < _FEW or classes < 2:
        return notes
    for column, cells in zip(columns, values.T, strict=True):
        if column.distinct == classes and np.unique(np.stack([cells, y.numpy()]), axis=1).shape[1] == classes:
            notes.append(f"{column.name} alone tells the label of every row: is it a copy of it?")
    return notes
