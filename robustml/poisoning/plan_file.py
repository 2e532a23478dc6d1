"""A plan on disk, poison.parquet: one row a record that differs, and in the file's metadata what holds of the whole.

The bytes of a record stand there before and after; after, only where the input itself is changed. They are as long as
an input of the set, so that no file can claim more than its rows times that. The figures, the digests of both sets and
that of the entries are JSON in the metadata, under ``robustml.poison``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.files import opened, replacing
from robustml.poisoning.compare import record_digest
from robustml.poisoning.plan import PoisonPlan
from robustml.results import PoisonSummary

__all__ = ["read_plan", "write_plan"]

_KEY = b"robustml.poison"
_DTYPES = {"uint8": torch.uint8, "float32": torch.float32}
# Pictures shrink to a tenth, emptiness to a thousandth.
_SMALL, _UNPACKED = 64 * 2**20, 1000


class _Head(BaseModel):
    """What holds of the whole."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    summary: PoisonSummary
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...] = Field(max_length=8)
    class_names: tuple[str, ...]
    rows: int = Field(ge=1)
    last: int
    clean_sha256: str
    poisoned_sha256: str
    test_sha256: str | None = None
    entries_sha256: str


def write_plan(plan: PoisonPlan, path: Path, *, test_sha256: str | None = None) -> None:
    """Write a plan.

    Args:
        plan: to write.
        path: the file.
        test_sha256: the fingerprint of the test part that lies beside a poisoned set.
    """
    entries = list(plan.entries())
    before = [_bytes(plan.before, entry.before) for entry in entries]
    after = [_bytes(plan.after, entry.after) for entry in entries]
    columns = _columns(plan)
    new = [None if now == old else now for old, now in zip(before, after, strict=True)]
    head = _Head(
        summary=plan.summary,
        dtype=str(plan.before.x.dtype).removeprefix("torch."),  # type: ignore[arg-type]  # records have no other
        shape=tuple(plan.before.x.shape[1:]),
        class_names=plan.before.class_names,
        rows=plan.rows,
        last=plan.last,
        clean_sha256=plan.clean_sha256,
        poisoned_sha256=plan.poisoned_sha256,
        test_sha256=test_sha256,
        entries_sha256=_digest(columns),
    )
    table = pa.table(columns | {"before": before, "after": new}, _schema(_size(plan.before)))
    with replacing(path) as file:
        pq.write_table(table.replace_schema_metadata({_KEY: head.model_dump_json()}), file, compression="zstd")


def read_plan(path: Path) -> PoisonPlan:
    """The plan that `write_plan` wrote, once every entry is found to be as its digests say.

    Raises:
        RequestError: the file is absent, is none, was damaged or altered, or claims more than it can hold.
    """
    return read_plan_of_set(path)[0]


def read_plan_of_set(path: Path) -> tuple[PoisonPlan, str | None]:
    """The plan, and the fingerprint of the test part that lies beside a poisoned set."""
    with opened(path) as file:
        try:
            parquet = pq.ParquetFile(file)
            head = _Head.model_validate_json((parquet.schema_arrow.metadata or {})[_KEY])
            size = math.prod(head.shape) * _DTYPES[head.dtype].itemsize
            expected = _schema(size)
            if parquet.schema_arrow.remove_metadata() != expected:
                raise RequestError(f"{path} is no plan of a poison: it has other columns")
            claimed, held = 2 * size * parquet.metadata.num_rows, path.stat().st_size
            if min(head.shape, default=1) < 1 or claimed > max(_SMALL, _UNPACKED * held):
                raise RequestError(f"{path} is refused: {held:,} bytes that claim to hold {claimed:,}")
            table = parquet.read()
        except RequestError:
            raise
        except (pa.ArrowException, OSError, KeyError, ValidationError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RequestError(f"{path} is no plan of a poison, or was damaged: {reason}") from error
    try:
        plan = _plan(table, head)
        columns = _columns(plan)
        if _digest(columns) != head.entries_sha256 or columns != table.select(list(columns)).to_pydict():
            raise ValueError("its entries are not those that its digests are of")
    except (ValueError, RequestError, IndexError, RuntimeError) as error:
        raise RequestError(f"{path} was altered: {' '.join(str(error).split())[:200]}") from error
    return plan, head.test_sha256


def _plan(table: pa.Table, head: _Head) -> PoisonPlan:
    change, ids = table["change"].to_pylist(), torch.tensor(table["id"].to_pylist(), dtype=torch.int64)
    is_before = torch.tensor([each != "added" for each in change], dtype=torch.bool)
    is_after = torch.tensor([each != "deleted" for each in change], dtype=torch.bool)
    old, new = table["before"].to_pylist(), table["after"].to_pylist()
    now = [before if after is None else after for before, after in zip(old, new, strict=True)]

    def part(which: Tensor, values: list[bytes | None], labels: str) -> Records:
        chosen = which.nonzero().squeeze(1).tolist()
        content = b"".join([values[row] or b"" for row in chosen])
        flat = torch.from_numpy(np.frombuffer(content, np.dtype(head.dtype)).copy())
        y = torch.tensor([table[labels][row].as_py() for row in chosen], dtype=torch.int64)
        return Records(flat.view(len(chosen), *head.shape), y, head.class_names, ids=ids[which])

    places = [place for place in table["place"].to_pylist() if place is not None]
    distinct = len(places) == int(is_before.sum()) and len(set(ids.tolist())) == len(ids)
    if not distinct or any(not 0 <= place < head.rows for place in places):
        raise ValueError("a record stands where there is none")
    return PoisonPlan(
        summary=head.summary,
        before=part(is_before, old, "original_label"),
        after=part(is_after, now, "label"),
        places=torch.tensor(places, dtype=torch.int64),
        cover=ids[torch.tensor([each == "cover" for each in change], dtype=torch.bool)],
        last=head.last,
        rows=head.rows,
        clean_sha256=head.clean_sha256,
        poisoned_sha256=head.poisoned_sha256,
    )


def _columns(plan: PoisonPlan) -> dict[str, list[Any]]:
    """The entries as they can be read by anyone, without the bytes."""
    entries = list(plan.entries())

    def of(records: Records, rows: Sequence[int | None], *, digests: bool) -> list[Any]:
        labels = [None if row is None else int(records.y[row]) for row in rows]
        if not digests:
            return labels
        return [
            None if row is None or label is None else record_digest(records.x[row], label)
            for row, label in zip(rows, labels, strict=True)
        ]

    before, after = [entry.before for entry in entries], [entry.after for entry in entries]
    return {
        "id": [entry.id for entry in entries],
        "change": [entry.change for entry in entries],
        "place": [None if row is None else int(plan.places[row]) for row in before],
        "label": of(plan.after, after, digests=False),
        "original_label": of(plan.before, before, digests=False),
        "sha256": of(plan.after, after, digests=True),
        "original_sha256": of(plan.before, before, digests=True),
    }


def _schema(size: int) -> pa.Schema:
    texts, numbers, content = pa.string(), pa.int64(), pa.binary(size)
    kinds = {"id": numbers, "change": texts, "place": numbers, "label": numbers, "original_label": numbers}
    digests = {"sha256": texts, "original_sha256": texts}
    return pa.schema(list((kinds | digests | {"before": content, "after": content}).items()))


def _digest(columns: dict[str, list[Any]]) -> str:
    lines = (" ".join(map(str, entry)) + "\n" for entry in zip(*columns.values(), strict=True))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _size(records: Records) -> int:
    """The bytes of one input."""
    return math.prod(records.x.shape[1:]) * records.x.element_size()


def _bytes(records: Records, row: int | None) -> bytes | None:
    return None if row is None else records.x[row].contiguous().numpy().tobytes()
