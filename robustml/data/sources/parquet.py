"""Image sets in the Hub's Parquet layout: local files, and the Hub itself."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from robustml.data.decode import decode_images
from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.splits import Split, part_of
from robustml.errors import RequestError, nearest

# A record takes bits at least; one that is repeated without end takes none.
_ROWS_A_BYTE = 8


@dataclass(frozen=True)
class ParquetImages:
    """Image sets in Parquet files, laid out as the Hub's: encoded images, and integer or string labels.

    Args:
        train: the file of the training part.
        test: the file of the test part; None holds out a stratified fifth of `train`.
        image: the column of images: a struct with `bytes` (or `path`), or plain bytes.
        label: the column of labels. Class names come from the file's Hub metadata where it has them, else from the
            labels of `train`.
        size: [height, width] to resize to, in pixels.
        channels: 1 makes all images grey, 3 all colour; None is 3 where any of them is in colour.
        background: the colour behind transparent images.
    """

    train: str
    test: str | None = None
    image: str = "image"
    label: str = "label"
    size: Sequence[int] | None = None
    channels: int | None = None
    background: str = "white"

    def files(self, split: Split) -> tuple[Path, ...]:
        """Both files, since class names come from the training part, and the images that that of `split` refers to."""
        listed = tuple(Path(path) for path in (self.train, self.test) if path is not None)
        return listed + tuple(Path(path) for path in self._paths(split))

    def _part(self, split: Split) -> str:
        return self.train if self.test is None or split == "train" else self.test

    def _paths(self, split: Split) -> list[str]:
        path = Path(self._part(split))
        if not path.is_file() or _holds_all_bytes(path, self.image):
            return []
        encoded = _encoded(read_columns(path, [self.image])[self.image], self.image, str(path))
        return [each for each in encoded if isinstance(each, str)]

    def load(self, split: Split) -> Records:
        """Images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: on a file that cannot be read, an unknown column, a bad label or a bad image.
        """
        held_out = self.test is None
        path = self._part(split)
        names = None if path == self.train else classes_of(self.train, self.label)
        table = read_columns(Path(path), [self.image, self.label])
        return _arrays(table, self, names, path, split if held_out else None)


@dataclass(frozen=True)
class HubImages:
    """An image set of the Hugging Face Hub, or a local copy of it.

    With `root`, or the environment variable `ROBUSTML_DATA`, the copy is read from `<root>/<folder>/train.parquet`
    and `test.parquet`. A copy missing under `root` is an error; one missing under `ROBUSTML_DATA` is looked for on the
    Hub, since that folder may hold some sets only.

    Args:
        path: the set's name on the Hub, such as "ylecun/mnist".
        image: the column of images.
        label: the column of labels.
        train_split: the Hub's name for the training part.
        test_split: the Hub's name for the test part.
        revision: the commit to read; decoded sets are cached only where it is pinned, or for local copies.
        name: which configuration of the set, for sets that have several.
        root: the folder of local copies.
        folder: this set's folder under `root`; None is the last part of `path`.
        size: [height, width] to resize to, in pixels.
        channels: 1 makes all images grey, 3 all colour; None is 3 where any of them is in colour.
        background: the colour behind transparent images.
    """

    path: str
    image: str = "image"
    label: str = "label"
    train_split: str = "train"
    test_split: str = "test"
    revision: str | None = None
    name: str | None = None
    root: str | None = None
    folder: str | None = None
    size: Sequence[int] | None = None
    channels: int | None = None
    background: str = "white"

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
        hub_split = self.train_split if split == "train" else self.test_split
        dataset = self._fetch(hub_split)
        where = f"{self.path} ({hub_split})"
        for column in (self.image, self.label):
            _require(column, dataset.column_names, where)
        names = None
        if split == "test":
            train = self._fetch(self.train_split)
            coded = getattr(train.features[self.label], "names", None)
            whose = f"{self.path} ({self.train_split})"
            values = list(train[self.label]) if coded is None else []
            _, names = encode_labels(values, None, lambda row: f"{whose}, row {row}", coded=coded)
        # written with the metadata that a file of the Hub's layout has
        table = dataset.select_columns([self.image, self.label]).with_format("arrow")[:]
        return _arrays(table, self, names, where, None)

    def _folder(self) -> str:
        return self.folder or self.path.rsplit("/", 1)[-1]

    def _candidates(self) -> tuple[str, str] | None:
        root = self.root or os.environ.get("ROBUSTML_DATA")
        if not root:
            return None
        folder = Path(root) / self._folder()
        return str(folder / "train.parquet"), str(folder / "test.parquet")

    def _copy(self) -> ParquetImages | None:
        candidates = self._candidates()
        if candidates is None:
            return None
        train, test = candidates
        if self.root or (Path(train).is_file() and Path(test).is_file()):
            return ParquetImages(train, test, self.image, self.label, self.size, self.channels, self.background)
        return None

    def _fetch(self, hub_split: str) -> Any:
        import datasets  # four seconds, and only this path needs it

        try:
            return datasets.load_dataset(self.path, self.name, split=hub_split, revision=self.revision)
        except Exception as error:  # a dozen kinds, from sockets to unknown configurations; all end the same way
            candidates = self._candidates()
            looked = (
                "no local folder is set" if candidates is None else f"no copy at {candidates[0]} and {candidates[1]}"
            )
            reason = (str(error).splitlines() or [""])[0]
            raise RequestError(
                f"cannot read {self.path} ({hub_split}) from the Hub: {type(error).__name__}: {reason}; {looked}. "
                f"Set ROBUSTML_DATA=<dir> or data.root=<dir> to a folder with {self._folder()}/{{train,test}}.parquet"
            ) from error


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Columns of a Parquet file.

    Raises:
        RequestError: the file is missing or damaged, or lacks one of them.
    """
    if not path.is_file():
        raise RequestError(f"no file {path} (looked from {Path.cwd()}); paths are relative to the current folder")
    try:
        rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
        if rows > _ROWS_A_BYTE * size:
            raise RequestError(f"{path} is refused: {size:,} bytes that claim to hold {rows:,} rows")
        known = pq.read_schema(path).names
        for column in columns:
            _require(column, known, str(path))
        return pq.read_table(path, columns=list(dict.fromkeys(columns)))
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RequestError(f"{path}: not a readable Parquet file ({reason}); fetch it again") from error


def _require(column: str, known: Sequence[str], where: str) -> None:
    if column not in known:
        raise RequestError(f"{where}: no column {column!r}; {nearest(column, known)}")


def class_names_of(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """What `datasets` wrote about a `ClassLabel` column into the file, read without importing it."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(str(name) for name in described["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


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


def classes_of(path: str, label: str) -> tuple[str, ...]:
    """The classes of a training file, in label order."""
    labels = read_columns(Path(path), [label])
    coded = class_names_of(labels.schema, label)
    values = labels[label].to_pylist() if coded is None else []
    return encode_labels(values, None, lambda row: f"{path}, row {row}", coded=coded)[1]


def _arrays(
    table: pa.Table,
    source: ParquetImages | HubImages,
    class_names: tuple[str, ...] | None,
    where: str,
    part: Split | None,
) -> Records:
    """Decode the rows of a table, or only those of `part` where the table has no test part beside it.

    `class_names` are those of the training part, None where this is it.
    """
    coded = class_names_of(table.schema, source.label)
    values = table[source.label].to_pylist()
    y, class_names = encode_labels(values, class_names, lambda row: f"{where}, row {row}", coded=coded)
    encoded = _encoded(table[source.image], source.image, where)
    rows = list(range(len(encoded))) if part is None else part_of(y, part).tolist()
    x, understood = decode_images(
        [encoded[row] for row in rows],
        lambda position: f"{where}, row {rows[position]}",
        source.size,
        channels=source.channels,
        background=source.background,
    )
    return Records(x, y[rows], class_names, understood, torch.tensor(rows))
