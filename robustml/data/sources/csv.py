"""Sets listed in CSV files: tables of numbers, or paths of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from robustml.data.arrays import Arrays
from robustml.data.decode import decode_images
from robustml.data.labels import encode_labels
from robustml.data.splits import Split, part_of
from robustml.errors import RequestError, nearest

__all__ = ["Csv"]


@dataclass(frozen=True)
class Csv:
    """One row a sample, one column the label.

    Without `image` every other numeric column is a feature, in the order of the training file, scaled to [0, 1] by
    that file's least and greatest value; a constant column becomes 0, and values beyond the training file's are
    clipped. Columns that are not numeric are passed over.

    Args:
        train: the file to train on.
        test: the file to test on; None holds out a stratified fifth of `train`.
        label: the column of labels.
        image: the column of image paths, relative to the CSV file.
        size: [height, width] to resize images to, in pixels.
    """

    train: str
    test: str | None = None
    label: str = "label"
    image: str | None = None
    size: Sequence[int] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the training file decides on what the inputs mean: it scales the columns."""
        return self.image is None

    def files(self, split: Split) -> tuple[Path, ...]:
        """The CSV files, and the images that the one of `split` lists."""
        listed = tuple(Path(path) for path in (self.train, self.test) if path is not None)
        return listed + tuple(self._paths(_read(self._file(split)), split) if self.image is not None else ())

    def load(self, split: Split) -> Arrays:
        """Features (N, D), float32 in [0, 1], or images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: on a file that cannot be read, an unknown column, a missing value, a bad label or image.
        """
        train = _read(Path(self.train))
        _, names = self._labels(train, self.train, None)
        path = self._file(split)
        table = train if str(path) == str(Path(self.train)) else _read(path)
        y, names = self._labels(table, str(path), names)
        rows = part_of(y, split) if self.test is None else torch.arange(len(y))
        if self.image is None:
            return Arrays(torch.from_numpy(self._features(train, table, path)), y, names).take(rows)
        images = self._paths(table, split)
        chosen = rows.tolist()

        def where(position: int) -> str:
            return f"{path}, line {chosen[position] + 2}: {images[chosen[position]]}"

        return Arrays(decode_images([images[row] for row in chosen], where, self.size), y[rows], names)

    def _file(self, split: Split) -> Path:
        return Path(self.train if self.test is None or split == "train" else self.test)

    def _labels(
        self, table: pd.DataFrame, path: str, names: tuple[str, ...] | None
    ) -> tuple[torch.Tensor, tuple[str, ...]]:
        _require(self.label, table, path)
        # line 1 is the header
        return encode_labels(table[self.label].tolist(), names, lambda row: f"{path}, line {row + 2}")

    def _paths(self, table: pd.DataFrame, split: Split) -> list[Path]:
        path = self._file(split)
        assert self.image is not None
        _require(self.image, table, str(path))
        missing = np.flatnonzero(table[self.image].isna())
        if len(missing):
            raise RequestError(f"{path}, line {missing[0] + 2}: expected an image path in {self.image!r}, found none")
        return [path.parent / str(value) for value in table[self.image]]

    def _features(
        self, train: pd.DataFrame, table: pd.DataFrame, path: Path
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        columns = list(train.select_dtypes(["number", "bool"]).columns.drop(self.label, errors="ignore"))
        if not columns:
            raise RequestError(f"{self.train}: expected numeric feature columns beside {self.label!r}, found none")
        for frame, name in ((train, self.train), (table, str(path))):
            for column in columns:
                _require(column, frame, name)
                if not pd.api.types.is_numeric_dtype(frame[column]):
                    raise RequestError(f"{name}: expected numbers in {column!r}, as in {self.train}; mend the column")
                bad = np.flatnonzero(~np.isfinite(frame[column].to_numpy(np.float64)))
                if len(bad):
                    raise RequestError(f"{name}, line {bad[0] + 2}: expected a finite number in {column!r}; fill it in")
        low, high = (getattr(train[columns].astype(np.float64), end)().to_numpy() for end in ("min", "max"))
        span = np.where(high > low, high - low, 1.0)
        scaled = (table[columns].to_numpy(np.float64) - low) / span
        return np.clip(np.where(high > low, scaled, 0.0), 0, 1).astype(np.float32)


def _require(column: str, table: pd.DataFrame, path: str) -> None:
    if column not in table.columns:
        raise RequestError(f"{path}: no column {column!r}; {nearest(column, [str(name) for name in table.columns])}")


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise RequestError(f"no file {path} (looked from {Path.cwd()}); paths are relative to the current folder")
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        reason = (str(error).splitlines() or [""])[0]
        raise RequestError(f"{path}: not a readable CSV file ({reason})") from error
