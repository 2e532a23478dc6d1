"""suspects.parquet as pages draw it: the records that detectors flagged, the most suspect first."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustml.errors import RequestError, printable

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST, _LARGEST = 200, 2**17


@dataclass(frozen=True)
class SuspectRecord:
    """A record under suspicion.

    Attributes:
        record: part and row that it was read from.
        file: its file, below the folder of the set, where it has one of its own.
        label: its class, by name.
        flagged_by: the detectors that flag it, of those that found something.
        picture: a data URI, or "" where there is none to show.
    """

    record: str
    file: str
    label: str
    flagged_by: tuple[str, ...]
    picture: str


def read_suspects(path: Path, found: Collection[str]) -> list[SuspectRecord]:
    """The flagged records that have a picture; none where the file is missing.

    Args:
        path: suspects.parquet.
        found: the detectors that found something: what others flag, they flag of any set.

    Raises:
        RequestError: it is damaged, or none of ours.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        return []
    try:
        file = parquet.ParquetFile(path)
        batch = next(file.iter_batches(_MOST), None)
        rows = [] if batch is None else batch.to_pylist()
        return [_record(row, found) for row in rows if row["flagged"] is True and row["picture"] is not None]
    except (OSError, pa.ArrowException, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def _record(row: Mapping[str, Any], found: Collection[str]) -> SuspectRecord:
    picture = row["picture"]
    shown = isinstance(picture, bytes) and picture.startswith(_PNG) and len(picture) <= _LARGEST
    names = [name for name in found if row.get(f"{name}_flagged") is True]
    return SuspectRecord(
        record=printable(str(row["record"])),
        file=printable(str(row["file"] or "")),
        label=printable(str(row["label"])),
        flagged_by=tuple(map(printable, names)),
        picture=f"data:image/png;base64,{base64.b64encode(picture).decode()}" if shown else "",
    )
