"""Labelled texts in CSV and Parquet files or in folders, as bags of words: what holds for (N, D) in [0, 1] holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from robustml.data.encodings import encoding_of, known_encoding
from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.sources.class_folders import ClassFolders, class_folders
from robustml.data.sources.parquet import read_columns
from robustml.data.sources.parts import InFiles, absent
from robustml.data.sources.stored import PartFiles, StoredRecords, files_as_records
from robustml.data.sources.stored_csv import csv_records
from robustml.data.sources.stored_parquet import class_names_of, classes_in, parquet_records
from robustml.data.sources.table import read_table
from robustml.data.splits import Split
from robustml.data.understood import Understood, listed
from robustml.errors import RequestError, nearest

Bag = Literal["presence", "tfidf", "hashing"]

_SUFFIXES = frozenset({".txt"})


@dataclass(frozen=True)
class Texts(InFiles):
    """One text a sample: a row of a CSV or Parquet file, or a ``.txt`` file in the folder of its class.

    Arguments as of `InFiles` (a Parquet file, ``.parquet``, laid out as the Hub's; a folder of class folders; or a CSV
    file), and:

    Args:
        text: the column of texts; an empty one is a text without words.
        label: the column of labels. Class names come from the file's Hub metadata where it has them, else from the
            labels of `train`.
        features: how many words the vocabulary holds at most.
        bag: ``"presence"``, ``"tfidf"`` or ``"hashing"``, as for `bag_of_words`; the training part alone (without what
            is held out) decides on the vocabulary.
        separator: what stands between the cells of a CSV file; None finds out.
        encoding: of CSV files and of texts in folders; None reads UTF-8, UTF-16 and UTF-32 as each file shows it, and a
            text in a folder that is none of these as latin-1, which is then said.
    """

    text: str = "text"
    label: str = "label"
    features: int = 1000
    bag: Bag = "presence"
    separator: str | None = None
    encoding: str | None = None

    @property
    def fitted(self) -> bool:
        """Whether the training part decides on what the inputs mean: the vocabulary comes from it."""
        return self.bag != "hashing"

    def files(self, split: Split) -> tuple[Path, ...]:
        """The files of both parts, since the vocabulary comes from the training part."""
        parts = super().files(split)
        return tuple(file for part in parts for file in (_found(part).known_by() if part.is_dir() else [part]))

    def load(self, split: Split) -> Records:
        """Vectors of words (N, D), float32 in [0, 1].

        Raises:
            RequestError: on files that cannot be read, an unknown column, a missing text, a bad label, or no words.
        """
        train = part = self._read(Path(self.train))
        y, names = encode_labels(train.labels, train.classes, train.where, coded=train.coded)
        known = [train.texts[row] for row in self.rows(y, "train").tolist()]
        if self.test is not None and split == "test":
            part = self._read(Path(self.test))
            y, _ = encode_labels(part.labels, names, part.where, coded=part.coded)
        rows = self.rows(y, split)
        x = bag_of_words([part.texts[row] for row in rows.tolist()], known, self.features, self.bag)
        understood = part.understood
        if without := [row for row, text in enumerate(part.texts) if not text.strip()]:
            understood = understood.noting(
                f"{len(without)} of {len(part.texts)} texts are empty ({part.where(without[0])})"
            )
        if strange := int((x.sum(1) == 0).sum()) - len(without) * (self.test is not None):
            understood = understood.noting(f"{strange} of {len(x)} texts hold none of the {x.shape[1]} words")
        return Records(x, y[rows], names, understood, rows)

    def stored(self, split: Split) -> StoredRecords:
        """One record a row or file; raises what looking through a folder does."""
        path = self.path(split)
        if path.is_dir():
            return files_as_records(split, path, _found(path).files)
        if path.suffix.lower() == ".parquet":
            return parquet_records(path, split, self.text, self.label)
        return csv_records(path, split, self.label, text=self.text, separator=self.separator, encoding=self.encoding)

    def stored_files(self, split: Split) -> PartFiles | None:
        """The file, or all in the folder but what other programs leave behind."""
        path = self.path(split)
        return _found(path).kept_in(path) if path.is_dir() else super().stored_files(split)

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """Those that class folders or a file's metadata name."""
        path = self.path(split)
        return _found(path).classes if path.is_dir() else classes_in(path, self.label)

    def _read(self, path: Path) -> _Rows:
        if path.is_dir():
            return _read_folder(path, self.encoding)
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path, self.text, self.label)
        if not path.is_file():
            raise absent(path, "file or folder")
        table = read_table(path, [self.text, self.label], separator=self.separator, encoding=self.encoding)
        texts, labels = table.strings(table.place(self.text)), table.labels(table.place(self.label))
        return _Rows(texts, labels, table.where, understood=table.understood)


class _Rows(NamedTuple):
    """Texts, their labels as they are written, names for rows, what numbers stand for or which classes there are."""

    texts: list[str]
    labels: Sequence[object]
    where: Callable[[int], str]
    coded: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    understood: Understood = Understood()


def _read_parquet(path: Path, text: str, label: str) -> _Rows:
    table = read_columns(path, [text, label])
    texts = table[text].to_pylist()
    for row, value in enumerate(texts):
        if not isinstance(value, str):
            raise RequestError(
                f"{path}, row {row}: expected a text in {text!r}, got {value!r}; name another column or mend the row"
            )
    names = class_names_of(table.schema, label)
    return _Rows(texts, table[label].to_pylist(), lambda row: f"{path}, row {row}", coded=names)


def _read_folder(folder: Path, encoding: str | None) -> _Rows:
    found = _found(folder)
    given = None if encoding is None else known_encoding(encoding)
    texts, used = [], dict[str, list[Path]]()
    for path, _ in found.files:
        content = path.read_bytes()
        name = given or encoding_of(content)
        try:
            # old mail comes in whatever encoding, most of it in latin-1, in which every byte is a letter
            texts.append(content.decode(name or "latin-1").removeprefix("\ufeff"))
        except UnicodeDecodeError as error:
            raise RequestError(f"{path}: byte {error.start} is not {name}; set data.source.encoding") from error
        used.setdefault(name or "latin-1, being no UTF-8", []).append(path)
    facts = {}
    if used.keys() - {"utf-8"}:
        facts["encodings"] = "; ".join(f"{name} ({len(paths)}: {listed(paths)})" for name, paths in used.items())
    labels = [name for _, name in found.files]
    understood = found.understood + Understood(facts)
    where = [str(path) for path, _ in found.files].__getitem__
    return _Rows(texts, labels, where, classes=found.classes, understood=understood)


def _found(folder: Path) -> ClassFolders:
    return class_folders(folder, _SUFFIXES, ".txt files")


def bag_of_words(texts: Sequence[str], train: Sequence[str], features: int = 1000, bag: Bag = "presence") -> Tensor:
    """Each text as one value a word, whatever the words' order; scikit-learn's words (two letters or more, lower case).

    The vocabulary is the `features` words found in most texts of `train`, of equals the first in the alphabet, sorted.
    Nothing else of `train` is used, and words outside the vocabulary are passed over.

    Args:
        texts: what to describe.
        train: the training part, which alone decides on the vocabulary and on how rare its words are.
        features: how many words at most; with ``hashing`` exactly as many columns.
        bag: ``"presence"`` is 1 for a word that occurs and 0 otherwise; ``"tfidf"`` counts occurrences, rare words for
            more, in vectors of Euclidean length 1; ``"hashing"`` is presence in columns that a hash of the word names,
            so that no training text, poisoned or not, decides on the columns (different words may share one).

    Returns:
        (N, D), float32 in [0, 1]; D is `features` or, where `train` has fewer words, their number.

    Raises:
        RequestError: `features` is below 1, `bag` is unknown, or `train` has no words.
    """
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer  # takes a second

    if features < 1:
        raise RequestError(f"expected features, the number of words, to be at least 1; got {features}")
    if bag not in get_args(Bag):
        raise RequestError(f"bag={bag!r} is unknown; {nearest(str(bag), get_args(Bag))}")
    if bag == "hashing":
        vectorizer = HashingVectorizer(n_features=features, binary=True, norm=None, alternate_sign=False)
        return _dense(vectorizer.transform(texts))
    words_of = CountVectorizer().build_analyzer()
    # by hand: where words are equally frequent, scikit-learn's max_features leaves the choice to an unstable sort
    found = Counter(word for text in train for word in set(words_of(text)))
    if not found:
        raise RequestError("expected words in the training texts, found none; name the column or folder of the texts")
    vocabulary = sorted(sorted(found, key=lambda word: (-found[word], word))[:features])
    if bag == "presence":
        return _dense(CountVectorizer(vocabulary=vocabulary, binary=True).transform(texts))
    return _dense(TfidfVectorizer(vocabulary=vocabulary).fit(train).transform(texts))


def _dense(matrix: Any) -> Tensor:
    """A sparse matrix of SciPy as a tensor, float32."""
    values = matrix.astype(np.float32).toarray()
    # clipped: the length of a vector of one word may be rounded to just above 1
    return torch.from_numpy(values).clamp_(0, 1)
