"""A plan on disk, poison.parquet: one row a record that differs, and in the file's metadata what holds of the whole.

The bytes of a record stand there before and after; after, only where the input itself is changed. They are as long as
an input of the set, so that no file can claim more than its rows times that. The figures, the digests of both sets and
that of the entries are JSON in the metadata, under ``robustml.poison``; what the poison learned, such as the weights of
its generator, is safetensors in base64 under ``robustml.poison.learned``, told by a digest too.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.files import opened, replacing
from robustml.poisoning.plan import PoisonPlan
from robustml.results import PoisonSummary

_KEY, _LEARNED = b"robustml.poison", b"robustml.poison.learned"
_DTYPES = {"uint8": torch.uint8, "float32": torch.float32}
# Pictures shrink to a tenth, emptiness to a thousandth.
_SMALL, _UNPACKED = 64 * 2**20, 1000


class _Head(BaseModel):
    """What holds of the whole."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    summary: PoisonSummary
    rows: int = Field(ge=1)
    last: int
    clean_sha256: str
    poisoned_sha256: str
    test_sha256: str | None = None
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...] = Field(max_length=8)
    class_names: tuple[str, ...]
    entries_sha256: str
    learned_sha256: str | None = None


# What a plan has too, by the same name.
_OF_PLAN = ("summary", "rows", "last", "clean_sha256", "poisoned_sha256", "test_sha256")


def write_plan(plan: PoisonPlan, path: Path) -> None:
    """Write a plan."""
    entries, columns = list(plan.entries()), _columns(plan)
    before = [_bytes(plan.before, entry.before) for entry in entries]
    after = [_bytes(plan.after, entry.after) for entry in entries]
    new = [None if now == old else now for old, now in zip(before, after, strict=True)]
    learned = base64.b64encode(save(dict(plan.learned))) if plan.learned else None
    shape, dtype = tuple(plan.before.x.shape[1:]), str(plan.before.x.dtype).removeprefix("torch.")
    head = _Head(
        **{name: getattr(plan, name) for name in _OF_PLAN},
        dtype=dtype,  # type: ignore[arg-type]  # records have no other
        shape=shape,
        class_names=plan.before.class_names,
        entries_sha256=_digest(columns),
        learned_sha256=None if learned is None else hashlib.sha256(learned).hexdigest(),
    )
    metadata = {_KEY: head.model_dump_json()} | ({} if learned is None else {_LEARNED: learned})
    size = math.prod(shape) * plan.before.x.element_size()
    table = pa.table(columns | {"before": before, "after": new}, _schema(size))
    with replacing(path) as file:
        pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")


def read_plan(path: Path) -> PoisonPlan:
    """The plan that `write_plan` wrote, once every entry is found to be as its digests say.

    Raises:
        RequestError: the file is absent, is none, was damaged or altered, or claims more than it can hold.
    """
    with _reading(path) as (parquet, head):
        size = math.prod(head.shape) * _DTYPES[head.dtype].itemsize
        if parquet.schema_arrow.remove_metadata() != _schema(size):
            raise RequestError(f"{path} is no plan of a poison: it has other columns")
        claimed, held = 2 * size * parquet.metadata.num_rows, path.stat().st_size
        if min(head.shape, default=1) < 1 or claimed > max(_SMALL, _UNPACKED * held):
            raise RequestError(f"{path} is refused: {held:,} bytes that claim to hold {claimed:,}")
        learned, table = _learned(parquet, head), parquet.read()
    try:
        plan = replace(_plan(table, head), learned=learned)
        columns = _columns(plan)
        if _digest(columns) != head.entries_sha256 or columns != table.select(list(columns)).to_pydict():
            raise ValueError("its entries are not those that its digests are of")
    except (ValueError, RequestError, IndexError, RuntimeError) as error:
        raise RequestError(f"{path} was altered: {' '.join(str(error).split())[:200]}") from error
    return plan


def read_learned(path: Path) -> dict[str, Tensor]:
    """What a plan says that its poison learned, and nothing else of it.

    Raises:
        RequestError: as `read_plan`.
    """
    with _reading(path) as (parquet, head):
        return _learned(parquet, head)


@contextmanager
def _reading(path: Path) -> Iterator[tuple[pq.ParquetFile, _Head]]:
    """The file and what holds of the whole; what turns out to be wrong with it meanwhile is a request that was."""
    with opened(path) as file:
        try:
            parquet = pq.ParquetFile(file)
            yield parquet, _Head.model_validate_json((parquet.schema_arrow.metadata or {})[_KEY])
        except RequestError:
            raise
        except (pa.ArrowException, OSError, KeyError, ValidationError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RequestError(f"{path} is no plan of a poison, or was damaged: {reason}") from error


def _learned(parquet: pq.ParquetFile, head: _Head) -> dict[str, Tensor]:
    content = parquet.schema_arrow.metadata.get(_LEARNED)
    if (None if content is None else hashlib.sha256(content).hexdigest()) != head.learned_sha256:
        raise ValueError("what its poison learned is not what its digest is of")
    try:
        return {} if content is None else dict(load(base64.b64decode(content)))
    except SafetensorError as error:
        raise ValueError(f"what its poison learned cannot be read: {error}") from error


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
        **{name: getattr(head, name) for name in _OF_PLAN},
        before=part(is_before, old, "original_label"),
        after=part(is_after, now, "label"),
        places=torch.tensor(places, dtype=torch.int64),
        cover=ids[torch.tensor([each == "cover" for each in change], dtype=torch.bool)],
    )


def _columns(plan: PoisonPlan) -> dict[str, list[Any]]:
    """The entries as they can be read by anyone, without the bytes."""

    def label(records: Records, row: int | None) -> int | None:
        return None if row is None else int(records.y[row])

    def digest(records: Records, row: int | None) -> str | None:
        if row is None:
            return None
        content = records.x[row].contiguous().numpy().tobytes()
        return hashlib.sha256(content + int(records.y[row]).to_bytes(8, "little", signed=True)).hexdigest()

    entries = list(plan.entries())
    return {
        "id": [entry.id for entry in entries],
        "change": [entry.change for entry in entries],
        "place": [None if entry.before is None else int(plan.places[entry.before]) for entry in entries],
        "label": [label(plan.after, entry.after) for entry in entries],
        "original_label": [label(plan.before, entry.before) for entry in entries],
        "sha256": [digest(plan.after, entry.after) for entry in entries],
        "original_sha256": [digest(plan.before, entry.before) for entry in entries],
    }


def _schema(size: int) -> pa.Schema:
    texts, numbers, content = pa.string(), pa.int64(), pa.binary(size)
    kinds = {"id": numbers, "change": texts, "place": numbers, "label": numbers, "original_label": numbers}
    digests = {"sha256": texts, "original_sha256": texts}
    return pa.schema(list((kinds | digests | {"before": content, "after": content}).items()))


def _digest(columns: dict[str, list[Any]]) -> str:
    lines = (" ".join(map(str, entry)) + "\n" for entry in zip(*columns.values(), strict=True))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _bytes(records: Records, row: int | None) -> bytes | None:
    return None if row is None else records.x[row].contiguous().numpy().tobytes()
