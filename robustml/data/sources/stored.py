"""Sets as they are stored: record after record in its own bytes, before anything is decoded, never the whole set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from robustml.data.cache import Source
from robustml.data.splits import Split
from robustml.errors import RequestError
from robustml.files import opened

INPUT, LABEL = "input", "label"


class Stored(NamedTuple):
    """A record as it lies in its file.

    Args:
        part: which part it is read for.
        row: in the file, or of the files in the order of their names.
        name: of its own file, below the folder of the part; "" where it has none.
        fields: what it consists of, as stored: `INPUT` (an encoded picture, a text, numbers), `LABEL` (the name of its
            class as text), ``input.<column>`` for the columns of a table, and whatever else its row holds; None where
            there is nothing.
    """

    part: str
    row: int
    name: str
    fields: dict[str, bytes | None]


class Damaged(NamedTuple):
    """Records that cannot be read.

    Args:
        part: which part they are of.
        row: of the first of them.
        records: how many they are; None where the rest of the part cannot be read, however many there are.
        name: as of `Stored`.
        reason: what is wrong.
    """

    part: str
    row: int
    records: int | None
    name: str
    reason: str


StoredRecords = Iterator[Stored | Damaged]


class PartFiles(NamedTuple):
    """The files of a part.

    Args:
        root: what the user named: a file, or a folder.
        files: all that the part is read from, the file or those below the folder, in a fixed order.
    """

    root: Path
    files: tuple[Path, ...]


@runtime_checkable
class StoredSource(Source, Protocol):
    """A source that can be read as it is stored."""

    @property
    def parts(self) -> tuple[Split, ...]:
        """The parts that are stored, each once."""
        ...

    def stored(self, split: Split) -> StoredRecords:
        """The records of a part."""
        ...

    def stored_root(self, split: Split) -> Path | None:
        """The file or folder where they lie, which is not looked at; None where they lie in none of the user's."""
        ...

    def stored_files(self, split: Split) -> PartFiles | None:
        """All the files; None as of `stored_root`."""
        ...

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """The classes in label order, where the files themselves name them."""
        ...


class Decoded:
    """Another source, such as one that is generated or bundled: its records are stored as they are decoded.

    Args:
        source: it.
    """

    parts: tuple[Split, ...] = ("train", "test")

    def __init__(self, source: Source) -> None:
        self._source = source

    def load(self, split: Split) -> object:
        """What the source loads."""
        return self._source.load(split)

    def stored(self, split: Split) -> StoredRecords:
        """Inputs as the bytes of their arrays; labels by name."""
        records = self._source.load(split)
        for row, (x, label) in enumerate(zip(records.x.numpy(), records.y.tolist(), strict=True)):
            yield Stored(split, row, "", {INPUT: x.tobytes(), LABEL: records.class_names[label].encode()})

    def stored_root(self, split: Split) -> Path | None:
        """None: in no file of the user's."""
        return None

    def stored_files(self, split: Split) -> PartFiles | None:
        """None."""
        return None

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """None: the records tell."""
        return None


def as_stored(source: Source) -> StoredSource | Decoded:
    """A source as it is stored; one of some classes of another is stored as that is."""
    inner = getattr(source, "source", None)
    if inner is not None and not isinstance(source, StoredSource):
        return as_stored(inner)
    return source if isinstance(source, StoredSource) else Decoded(source)


def files_as_records(part: str, root: Path, files: Iterable[tuple[Path, str]]) -> StoredRecords:
    """One record a file.

    Args:
        part: which it is.
        root: the folder.
        files: each with its class.
    """
    for row, (path, label) in enumerate(files):
        name = path.relative_to(root).as_posix()
        try:
            with opened(path) as file:
                yield Stored(part, row, name, {INPUT: file.read(), LABEL: label.encode(errors="surrogateescape")})
        except RequestError as error:
            yield Damaged(part, row, 1, name, str(error))


def common_folder(roots: Iterable[Path]) -> Path:
    """The folder that all parts lie in: names of files in a manifest are relative to it."""
    return Path(os.path.commonpath([os.path.abspath(root.parent) for root in roots]))
