"""A part of a set as it is found, however it was damaged: its files, its classes, its records by their digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from robustml.data.sources.stored import Damaged, Decoded, StoredSource
from robustml.errors import RequestError
from robustml.integrity.manifest import Digested, digested
from robustml.workflows.integrity.apart import Died, apart


class PartNow(NamedTuple):
    """A part.

    Args:
        paths: its files.
        classes: in label order, where the files name them, and may name others than were signed.
        records: read when they are asked for.
    """

    paths: Sequence[Path]
    classes: Sequence[str] | None
    records: Iterable[Digested | Damaged]


def read_part(part: Any, stored: StoredSource | Decoded, root: Path | None, intact: bool) -> PartNow:
    """Look at a part.

    Args:
        part: which it is.
        stored: the set.
        root: its file or folder; None where it has none.
        intact: whether that is a file, and as it was signed. Else it is read in a process of its own, where it is
            Parquet: damaged metadata end the process that reads them.
    """
    telling = _told(part, stored)
    if root is not None and root.suffix == ".parquet" and not root.is_dir() and not intact:
        telling = apart(lambda: _told(part, stored))
    try:
        paths, classes = next(telling), next(telling)
    except (Died, RequestError) as error:
        return PartNow(
            [root] if root is not None and root.is_file() else [], None, [Damaged(part, 0, None, "", str(error))]
        )
    return PartNow([Path(path) for path in paths], None if intact else classes, _records(part, telling))


def _told(part: Any, stored: StoredSource | Decoded) -> Iterator[Any]:
    """Files, classes and records, as JSON holds them."""
    lying = stored.stored_files(part)
    yield [] if lying is None else [str(path) for path in lying.files]
    yield stored.stored_classes(part)
    for record in stored.stored(part):
        if isinstance(record, Damaged):
            yield list(record)
        else:
            row, name, label, fields = digested(record)
            yield [row, name, label, {key: one and one.hex() for key, one in fields.items()}]


def _records(part: str, telling: Iterator[Any]) -> Iterator[Digested | Damaged]:
    after = 0
    try:
        for item in telling:
            if len(item) == len(Damaged._fields):
                yield Damaged(*item)
                continue
            row, name, label, fields = item
            yield Digested(row, name, label, {key: one and bytes.fromhex(one) for key, one in fields.items()})
            after = row + 1
    except Died as error:
        yield Damaged(part, after, None, "", str(error))
