"""The manifest of a poisoned set: which records differ from the clean one, read off the bytes of both.

No poison writes its own manifest: it is a comparison of the set before with the set after, so that it can neither claim
a change that is not there nor leave one out. It holds what the changed and deleted records were, so that the clean set
can be rebuilt from the poisoned one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustml.data import Arrays
from robustml.errors import RequestError
from robustml.files import replacing
from robustml.poisoning.poison import Poisoned

__all__ = ["Manifest", "compare", "record_digest"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """What was done to a set.

    Attributes:
        kind: the poison's name.
        clean_rows: how many rows the clean set has.
        source: (M,) int64, the clean row behind each row of the poisoned set, -1 for added ones.
        changed: (K,) int64, rows of the poisoned set whose input or label differs from the clean row behind them.
        added: rows of the poisoned set that no clean row is behind, ascending.
        deleted: rows of the clean set that are gone, ascending.
        originals: the clean records behind `changed`, then those of `deleted`.
        poisoned: the records of `changed` and `added` as they are now.
    """

    kind: str
    clean_rows: int
    source: Tensor
    changed: Tensor
    added: Tensor
    deleted: Tensor
    originals: Arrays
    poisoned: Arrays

    @property
    def count(self) -> int:
        """How many records were changed, added or deleted."""
        return len(self.changed) + len(self.added) + len(self.deleted)

    @property
    def rate(self) -> float:
        """Those as a share of the clean set."""
        return self.count / self.clean_rows

    def summary(self) -> dict[str, Any]:
        """The `poison` entry of the data block in results.json."""
        return {
            "kind": self.kind,
            "rate": self.rate,
            "changed": len(self.changed),
            "added": len(self.added),
            "deleted": len(self.deleted),
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """One entry a record: its rows in both sets, its labels and digests in both; None where there is none."""
        source = self.source[self.changed].tolist()
        for position, (index, row) in enumerate(zip(self.changed.tolist(), source, strict=True)):
            yield self._entry("changed", index, row, position, position)
        for position, index in enumerate(self.added.tolist(), start=len(self.changed)):
            yield self._entry("added", index, None, None, position)
        for position, row in enumerate(self.deleted.tolist(), start=len(self.changed)):
            yield self._entry("deleted", None, row, position, None)

    def _entry(
        self, change: str, index: int | None, row: int | None, original: int | None, now: int | None
    ) -> dict[str, Any]:
        before = (None, None) if original is None else _label_and_digest(self.originals, original)
        after = (None, None) if now is None else _label_and_digest(self.poisoned, now)
        return {
            "kind": self.kind,
            "change": change,
            "index": index,
            "original_index": row,
            "label": after[0],
            "original_label": before[0],
            "sha256": after[1],
            "original_sha256": before[1],
        }

    def restore(self, data: Arrays) -> Arrays:
        """The clean set, bit for bit, out of the poisoned one.

        Raises:
            RequestError: `data` is not the set that this manifest is about.
        """
        if len(data) != len(self.source):
            raise RequestError(f"the manifest is of a set of {len(self.source)} records, got one of {len(data)}")
        kept = self.source >= 0
        x = torch.empty(self.clean_rows, *data.x.shape[1:], dtype=data.x.dtype)
        y = torch.empty(self.clean_rows, dtype=data.y.dtype)
        x[self.source[kept]], y[self.source[kept]] = data.x[kept], data.y[kept]
        rows = torch.cat([self.source[self.changed], self.deleted])
        x[rows], y[rows] = self.originals.x, self.originals.y
        return Arrays(x, y, data.class_names)

    def write(self, path: Path) -> None:
        """Write the entries as JSON Lines, one record a line, after a first line about the whole set."""
        header = self.summary() | {"clean_rows": self.clean_rows, "rows": len(self.source)}
        with replacing(path) as file:
            for entry in (header, *self.records()):
                file.write(json.dumps(entry).encode() + b"\n")


def compare(clean: Arrays, poisoned: Poisoned, kind: str) -> Manifest:
    """The manifest of `poisoned` against the set that it was made of.

    Args:
        clean: the set before.
        poisoned: the set after, and which clean row is behind each of its rows.
        kind: the poison's name.

    Raises:
        RequestError: two rows claim the same origin, or one that does not exist; rows left alone changed their order.
    """
    source, data = poisoned.source, poisoned.data
    kept = (source >= 0).nonzero().squeeze(1)
    origins = source[kept]
    if (len(origins) and int(origins.max()) >= len(clean)) or len(torch.unique(origins)) != len(origins):
        raise RequestError(f"{kind}: every row of a poisoned set must come from another row of the clean one, or none")
    different = _differs(clean, origins, data, kept)
    changed, untouched = kept[different], origins[~different]
    if (untouched.diff() < 0).any():
        raise RequestError(f"{kind}: rows that a poison leaves alone must stay in their order")
    added = (source < 0).nonzero().squeeze(1)
    is_left = torch.zeros(len(clean), dtype=torch.bool)
    is_left[origins] = True
    deleted = (~is_left).nonzero().squeeze(1)
    return Manifest(
        kind=kind,
        clean_rows=len(clean),
        source=source,
        changed=changed,
        added=added,
        deleted=deleted,
        originals=clean.take(torch.cat([source[changed], deleted])),
        poisoned=data.take(torch.cat([changed, added])),
    )


def _differs(clean: Arrays, origins: Tensor, data: Arrays, rows: Tensor) -> Tensor:
    """Which of `rows` differ from their origins, bit by bit: (K,). In parts, so that no second set is in memory."""
    parts = []
    for start in range(0, len(rows), 4096):
        before, after = origins[start : start + 4096], rows[start : start + 4096]
        old, new = clean.x[before].flatten(1), data.x[after].flatten(1)
        if old.dtype == torch.float32:  # -0.0 equals 0.0 and is another record
            old, new = old.view(torch.int32), new.view(torch.int32)
        parts.append((old != new).any(dim=1) | (clean.y[before] != data.y[after]))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)


def record_digest(x: Tensor, label: int) -> str:
    """SHA-256 of one record: its bytes and its label."""
    digest = hashlib.sha256(x.contiguous().numpy().tobytes())
    digest.update(label.to_bytes(8, "little", signed=True))
    return digest.hexdigest()


def _label_and_digest(data: Arrays, row: int) -> tuple[int, str]:
    label = int(data.y[row])
    return label, record_digest(data.x[row], label)
