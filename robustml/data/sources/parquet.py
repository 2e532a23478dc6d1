"""Image sets in the Hub's Parquet layout: local files, and the Hub itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from robustml.data.decode import Pictures
from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.sources.parts import InFiles, absent
from robustml.data.sources.stored import PartFiles, StoredRecords
from robustml.data.sources.stored_parquet import (
    ROWS_A_BYTE,
    class_names_of,
    classes_in,
    parquet_records,
    pictures_of,
    table_records,
)
from robustml.data.splits import Split
from robustml.errors import RequestError, nearest


@dataclass(frozen=True, kw_only=True)
class _Columns(Pictures):
    """A column of encoded images, and one of labels."""

    image: str = "image"
    label: str = "label"

    def _records(
        self, table: pa.Table, where: str, class_names: tuple[str, ...] | None, rows: Callable[[Tensor], Tensor]
    ) -> Records:
        """Decode the rows that `rows` chooses by the labels; `class_names` are None where this is the training part."""
        y, class_names = labels_of(table, self.label, where, class_names)
        encoded = _encoded(table[self.image], self.image, where)
        chosen = rows(y)
        x, understood = self.decode(encoded, lambda row: f"{where}, row {row}", chosen)
        return Records(x, y[chosen], class_names, understood, chosen)


@dataclass(frozen=True)
class ParquetImages(InFiles, _Columns):
    """Image sets in Parquet files, laid out as the Hub's: encoded images, and integer or string labels.

    Arguments as of `InFiles` and `Pictures`, and:

    Args:
        image: the column of images: a struct with `bytes` (or `path`), or plain bytes.
        label: the column of labels. Class names come from the file's Hub metadata where it has them, else from the
            labels of `train`.
    """

    def files(self, split: Split) -> tuple[Path, ...]:
        """Both files, since class names come from the training part, and the images that that of `split` refers to."""
        path, listed = self.path(split), super().files(split)
        if not path.is_file() or _holds_all_bytes(path, self.image):
            return listed
        encoded = _encoded(read_columns(path, [self.image])[self.image], self.image, str(path))
        return listed + tuple(Path(each) for each in encoded if isinstance(each, str))

    def stored(self, split: Split) -> StoredRecords:
        """One record a row: the bytes of its image."""
        return parquet_records(self.path(split), split, self.image, self.label)

    def stored_files(self, split: Split) -> PartFiles:
        """The file, and the images that it refers to."""
        path = self.path(split)
        named = () if not path.is_file() or _holds_all_bytes(path, self.image) else pictures_of(path, self.image)
        return PartFiles(path, (path, *sorted(set(named))))

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """Those that the file's metadata names."""
        return classes_in(self.path(split), self.label)

    def load(self, split: Split) -> Records:
        """Images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: on a file that cannot be read, an unknown column, a bad label or a bad image.
        """
        names = training_classes(self, self.label, split)
        table = read_columns(self.path(split), [self.image, self.label])
        return self._records(table, str(self.path(split)), names, partial(self.rows, split=split))


@dataclass(frozen=True)
class HubImages(_Columns):
    """An image set of the Hugging Face Hub, or a local copy of it.

    With `root`, or the environment variable `ROBUSTML_DATA`, the copy is read from `<root>/<folder>/train.parquet`
    and `test.parquet`. A copy missing under `root` is an error; one missing under `ROBUSTML_DATA` is looked for on the
    Hub, since that folder may hold some sets only. Arguments as of `ParquetImages`, but for `train` and `test`, and:

    Args:
        path: the set's name on the Hub, such as "ylecun/mnist".
        train_split: the Hub's name for the training part.
        test_split: the Hub's name for the test part.
        revision: the commit to read; decoded sets are cached only where it is pinned, or for local copies.
        name: which configuration of the set, for sets that have several.
        root: the folder of local copies.
        folder: this set's folder under `root`; None is the last part of `path`.
    """

    path: str
    train_split: str = "train"
    test_split: str = "test"
    revision: str | None = None
    name: str | None = None
    root: str | None = None
    folder: str | None = None

    def files(self, split: Split) -> tuple[Path, ...] | None:
        """The local copy; else nothing where a revision pins the content, and None where none does."""
        copy = self._copy()
        if copy is not None:
            return copy.files(split)
        return () if self.revision is not None else None

    def load(self, split: Split) -> Records:
        """Images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: when neither a local copy nor the Hub can be read, and as `ParquetImages.load` does.
        """
        copy = self._copy()
        if copy is not None:
            return copy.load(split)
        names, hub_split = None, self.train_split if split == "train" else self.test_split
        table = self._fetch(hub_split, self.image, self.label)
        if split == "test":
            train = self._fetch(self.train_split, self.label)
            _, names = labels_of(train, self.label, f"{self.path} ({self.train_split})", None)
        return self._records(table, f"{self.path} ({hub_split})", names, lambda y: torch.arange(len(y)))

    @property
    def parts(self) -> tuple[Split, ...]:
        """Both."""
        return ("train", "test")

    def stored(self, split: Split) -> StoredRecords:
        """One record a row: the bytes of its image."""
        if (copy := self._copy(whole=False)) is not None:
            return copy.stored(split)
        hub_split = self.train_split if split == "train" else self.test_split
        return table_records(self._fetch(hub_split, self.image, self.label), split, self.image, self.label)

    def stored_root(self, split: Split) -> Path | None:
        """That of the local copy."""
        copy = self._copy(whole=False)
        return None if copy is None else copy.stored_root(split)

    def stored_files(self, split: Split) -> PartFiles | None:
        """Those of the local copy."""
        copy = self._copy(whole=False)
        return None if copy is None else copy.stored_files(split)

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """Those that the local copy names."""
        copy = self._copy(whole=False)
        return None if copy is None else copy.stored_classes(split)

    def _folder(self) -> str:
        return self.folder or self.path.rsplit("/", 1)[-1]

    def _copy(self, whole: bool = True) -> ParquetImages | None:
        """The local copy; `whole` passes one over under ROBUSTML_DATA that lacks a file."""
        root = self.root or os.environ.get("ROBUSTML_DATA")
        if not root:
            return None
        train, test = (Path(root) / self._folder() / f"{part}.parquet" for part in ("train", "test"))
        if self.root or (train.is_file() and test.is_file()) or (not whole and train.parent.is_dir()):
            own = {field.name: getattr(self, field.name) for field in fields(_Columns)}
            return ParquetImages(str(train), str(test), **own)
        return None

    def _fetch(self, hub_split: str, *columns: str) -> pa.Table:
        import datasets  # four seconds, and only this path needs it

        try:
            dataset = datasets.load_dataset(self.path, self.name, split=hub_split, revision=self.revision)
        except Exception as error:  # a dozen kinds, from sockets to unknown configurations; all end the same way
            root = os.environ.get("ROBUSTML_DATA")
            looked = f"no copy in {Path(root) / self._folder()}" if root else "no local folder is set"
            raise RequestError(
                f"cannot read {self.path} ({hub_split}) from the Hub: {type(error).__name__}: {_reason(error)}; "
                f"{looked}. Set ROBUSTML_DATA=<dir> or data.root=<dir> to a folder with "
                f"{self._folder()}/{{train,test}}.parquet"
            ) from error
        for column in columns:
            _require(column, dataset.column_names, f"{self.path} ({hub_split})")
        # with the metadata that a file of the Hub's layout has
        return dataset.select_columns(list(columns)).with_format("arrow")[:]


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Columns of a Parquet file.

    Raises:
        RequestError: the file is missing or damaged, or lacks one of them.
    """
    if not path.is_file():
        raise absent(path)
    try:
        rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
        if rows > ROWS_A_BYTE * size:
            raise RequestError(f"{path} is refused: {size:,} bytes that claim to hold {rows:,} rows")
        known = pq.read_schema(path).names
        for column in columns:
            _require(column, known, str(path))
        return pq.read_table(path, columns=list(dict.fromkeys(columns)))
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{path}: not a readable Parquet file ({_reason(error)}); fetch it again") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _require(column: str, known: Sequence[str], where: str) -> None:
    if column not in known:
        raise RequestError(f"{where}: no column {column!r}; {nearest(column, known)}")


def _holds_all_bytes(path: Path, image: str) -> bool:
    """Whether the file says of itself that no image is a mere path, so that the column need not be read for that."""
    try:
        groups = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return True  # the reader has the better words for a damaged file
    for index in range(groups.num_row_groups):
        group = groups.row_group(index)
        columns = {(column := group.column(place)).path_in_schema: column for place in range(group.num_columns)}
        held = columns.get(f"{image}.bytes", columns.get(image))
        if held is None or held.statistics is None or held.statistics.null_count != 0:
            return False
    return image in pq.read_schema(path).names


def _encoded(column: pa.ChunkedArray, image: str, where: str) -> list[bytes | str | None]:
    """The bytes of each image, else its path."""
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        encoded: list[bytes | str | None] = pc.struct_field(column, "bytes").to_pylist()
        if column.type.get_field_index("path") < 0:
            return encoded
        paths = pc.struct_field(column, "path").to_pylist()
        return [path if content is None else content for content, path in zip(encoded, paths, strict=True)]
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return list(column.to_pylist())
    raise RequestError(f"{where}: the column {image!r} holds {column.type}, not encoded images; name another one")


def labels_of(
    table: pa.Table, label: str, where: str, class_names: tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """The labels (N,) in a column and the classes in label order; `class_names` are None in a training part."""
    coded = class_names_of(table.schema, label)
    return encode_labels(table[label].to_pylist(), class_names, lambda row: f"{where}, row {row}", coded=coded)


def training_classes(source: InFiles, label: str, split: Split) -> tuple[str, ...] | None:
    """The classes of the training file in label order; None where `split` is read from that file itself."""
    if source.path(split) == Path(source.train):
        return None
    return labels_of(read_columns(Path(source.train), [label]), label, source.train, None)[1]
