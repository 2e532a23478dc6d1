"""Records that training leaves out, named by id in a file: what a detector found, or an auditor struck off."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robustml.data.records import Records
from robustml.errors import RequestError


def without(records: Records, path: str | Path, name: str) -> Records:
    """The records that the file does not name.

    Args:
        records: the training part.
        path: see `read_ids`.
        name: of the set, for messages.

    Raises:
        RequestError: the file cannot be read, names none of the records, or names all of them.
    """
    named = torch.isin(records.ids.cpu(), read_ids(path))
    if not named.any():
        raise RequestError(
            f"data.exclude={path} names none of the {len(records):,} training records of {name}: it is of another set"
        )
    if named.all():
        raise RequestError(f"data.exclude={path} names every training record of {name}: nothing would be left")
    return records.take((~named).nonzero().squeeze(1))


def read_ids(path: str | Path) -> Tensor:
    """The ids (K,) int64 that a Parquet or CSV file has in its column ``id``; of ``flagged`` rows, where it says so.

    Raises:
        RequestError: there is no such file, it cannot be read, or it has no such column.
    """
    import pyarrow as pa
    import pyarrow.compute as compute
    from pyarrow import csv, parquet

    path = Path(path)
    if not path.is_file():
        raise RequestError(f"data.exclude={path}: there is no such file (looked from {Path.cwd()})")
    try:
        table = csv.read_csv(path) if path.suffix.lower() == ".csv" else parquet.read_table(path, memory_map=False)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"data.exclude={path} cannot be read as a table of records: {reason}") from error
    if "id" not in table.column_names or not pa.types.is_integer(table["id"].type) or table["id"].null_count:
        raise RequestError(
            f"data.exclude={path} needs a column id of whole numbers, as suspects.parquet has one; it has "
            f"{', '.join(table.column_names[:8]) or 'no column'}"
        )
    if "flagged" in table.column_names:
        if not pa.types.is_boolean(table["flagged"].type):
            raise RequestError(f"data.exclude={path}: flagged must be true or false")
        table = table.filter(compute.fill_null(table["flagged"], False))
    return torch.tensor(table["id"].to_pylist(), dtype=torch.int64)
