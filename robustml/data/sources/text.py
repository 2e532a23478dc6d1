"""Labelled texts in CSV and Parquet files or in folders, as bags of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from robustml.data.arrays import Arrays
from robustml.data.labels import encode_labels
from robustml.data.sources.parquet import class_names_of, read_columns
from robustml.data.splits import Split, part_of
from robustml.data.words import Bag, bag_of_words
from robustml.errors import RequestError, nearest

__all__ = ["Texts"]


@dataclass(frozen=True)
class Texts:
    """One text a sample: a row of a CSV or Parquet file, or a ``.txt`` file (UTF-8) in the folder of its class.

    Args:
        train: what to train on: a Parquet file (``.parquet``, laid out as the Hub's), a folder of class folders, or a
            CSV file.
        test: the same for testing; None holds out a stratified fifth of `train`.
        text: the column of texts; an empty one is a text without words.
        label: the column of labels. Class names come from the file's Hub metadata where it has them, else from the
            labels of `train`.
        features: how many words the vocabulary holds at most.
        bag: ``"presence"``, ``"tfidf"`` or ``"hashing"``, as for `bag_of_words`; the training part alone (without what
            is held out) decides on the vocabulary.
    """

    train: str
    test: str | None = None
    text: str = "text"
    label: str = "label"
    features: int = 1000
    bag: Bag = "presence"

    @property
    def fitted(self) -> bool:
        """Whether the training part decides on what the inputs mean: the vocabulary comes from it."""
        return self.bag != "hashing"

    def files(self, split: Split) -> tuple[Path, ...]:
        """The files of both parts, since the vocabulary comes from the training part."""
        parts = [Path(part) for part in (self.train, self.test) if part is not None]
        return tuple(file for part in parts for file in (_texts_in(part) if part.is_dir() else [part]))

    def load(self, split: Split) -> Arrays:
        """Vectors of words (N, D), float32 in [0, 1].

        Raises:
            RequestError: on files that cannot be read, an unknown column, a missing text, a bad label, or no words.
        """
        train = _read(Path(self.train), self.text, self.label)
        y, names = encode_labels(train.labels, None, train.where, coded=train.coded)
        known = texts = train.texts
        if self.test is None:
            known = [train.texts[row] for row in part_of(y, "train").tolist()]
            rows = part_of(y, split)
            texts, y = [train.texts[row] for row in rows.tolist()], y[rows]
        elif split == "test":
            test = _read(Path(self.test), self.text, self.label)
            texts, (y, _) = test.texts, encode_labels(test.labels, names, test.where, coded=test.coded)
        return Arrays(bag_of_words(texts, known, self.features, self.bag), y, names)


class _Rows(NamedTuple):
    """Texts, their labels as they are written, what these stand for where the file tells, and names for rows."""

    texts: list[str]
    labels: Sequence[object]
    coded: tuple[str, ...] | None
    where: Callable[[int], str]


def _read(path: Path, text: str, label: str) -> _Rows:
    if path.is_dir():
        return _read_folder(path)
    return _read_parquet(path, text, label) if path.suffix == ".parquet" else _read_csv(path, text, label)


def _read_csv(path: Path, text: str, label: str) -> _Rows:
    if not path.is_file():
        raise RequestError(
            f"no file or folder {path} (looked from {Path.cwd()}); paths are relative to the current folder"
        )
    try:
        # a text may read "NA"; missing labels stay empty, and are refused as such
        table = pd.read_csv(path, dtype={text: str}, na_filter=False)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        reason = (str(error).splitlines() or [""])[0]
        raise RequestError(f"{path}: not a readable CSV file ({reason})") from error
    for column in (text, label):
        if column not in table.columns:
            raise RequestError(
                f"{path}: no column {column!r}; {nearest(column, [str(name) for name in table.columns])}"
            )
    return _Rows(table[text].tolist(), table[label].tolist(), None, lambda row: f"{path}, row {row}")


def _read_parquet(path: Path, text: str, label: str) -> _Rows:
    table = read_columns(path, [text, label])
    texts = table[text].to_pylist()
    for row, value in enumerate(texts):
        if not isinstance(value, str):
            raise RequestError(
                f"{path}, row {row}: expected a text in {text!r}, got {value!r}; name another column or mend the row"
            )
    names = class_names_of(table.schema, label)
    return _Rows(texts, table[label].to_pylist(), names, lambda row: f"{path}, row {row}")


def _read_folder(folder: Path) -> _Rows:
    files = _texts_in(folder)
    labels = [file.relative_to(folder).parts[0] for file in files]
    # old mail comes in whatever encoding; a letter that cannot be read ends a word
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return _Rows(texts, labels, None, lambda row: str(files[row]))


def _texts_in(folder: Path) -> list[Path]:
    """The text files in the class folders, sorted, so that the order does not depend on the file system."""
    files = sorted(file for file in folder.glob("[!.]*/**/*.txt") if file.is_file())
    if not files:
        raise RequestError(f"{folder}: expected .txt files in one folder a class, found none; sort the texts into such")
    return files
