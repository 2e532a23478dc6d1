"""The manifest of a poisoned set: which records differ from the clean one, read off the bytes of both.

No poison writes its own manifest: it is a comparison of the set before with the set after, so that it can neither claim
a change that is not there nor leave one out. It holds what the changed and deleted records were, so that the clean set
can be rebuilt from the poisoned one, and the digests of both sets and of its own entries, so that a missing entry or a
changed record that no entry lists is noticed. Unsigned, they prove that all fits together, not who wrote it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.files import replacing
from robustml.poisoning.dose import Dose
from robustml.poisoning.poison import Poisoned
from robustml.results import PoisonSummary

__all__ = ["Manifest", "compare", "entries_digest", "record_digest"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """What was done to a set.

    Attributes:
        dose: what was asked for and what was done, in figures.
        parts: the same of each of several poisons in turn.
        clean_sha256: the fingerprint of the clean set, over every record and their order.
        poisoned_sha256: that of the poisoned one.
        clean_rows: how many rows the clean set has.
        source: (M,) int64, the clean row behind each row of the poisoned set, -1 for added ones.
        changed: (K,) int64, rows of the poisoned set whose input or label differs from the clean row behind them.
        added: rows of the poisoned set that no clean row is behind, ascending.
        deleted: rows of the clean set that are gone, ascending.
        originals: the clean records behind `changed`, then those of `deleted`.
        poisoned: the records of `changed` and `added` as they are now.
    """

    dose: Dose
    parts: tuple[Dose, ...]
    clean_sha256: str
    poisoned_sha256: str
    clean_rows: int
    source: Tensor
    changed: Tensor
    added: Tensor
    deleted: Tensor
    originals: Records
    poisoned: Records

    @property
    def kind(self) -> str:
        """The poison's name."""
        return self.dose.kind

    @property
    def count(self) -> int:
        """How many records were changed, added or deleted, cover included."""
        return len(self.changed) + len(self.added) + len(self.deleted)

    @property
    def rate(self) -> float:
        """The share of the clean set that is the poison's own: without its cover."""
        return self.dose.rate

    @property
    def planted(self) -> Dose:
        """The figures of the backdoor that is measured: the last one of several poisons, or those of the only one."""
        return next((part for part in reversed(self.parts) if part.backdoor), self.dose)

    def summary(self) -> PoisonSummary:
        """The `poison` entry of the data block in results.json."""
        return PoisonSummary(
            **dict(self.dose.figures()),
            changed=len(self.changed),
            added=len(self.added),
            deleted=len(self.deleted),
            parts=[part.figures() for part in self.parts],
        )

    def lines(self) -> list[str]:
        """The figures for people to read: of the whole, and of each of several poisons in turn."""
        facts = {"changed": self.changed, "added": self.added, "deleted": self.deleted}
        counts = [f"{len(rows):,} {what}" for what, rows in facts.items() if len(rows)]
        whole = f"{self.dose.describe()} ({', '.join(counts) or 'nothing changed'})"
        return [whole, *(f"of those, {part.describe()}" for part in self.parts)]

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
            "kind": self.dose.kind,
            "change": change,
            "index": index,
            "original_index": row,
            "label": after[0],
            "original_label": before[0],
            "sha256": after[1],
            "original_sha256": before[1],
        }

    def restore(self, data: Records) -> Records:
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
        return Records(x, y, data.class_names)

    def write(self, path: Path, **facts: Any) -> None:
        """Write the entries as JSON Lines, one record a line, after a first line about the whole set.

        Args:
            path: the file.
            facts: what else the first line holds.
        """
        lines = [json.dumps(entry).encode() + b"\n" for entry in self.records()]
        header = self.summary().model_dump() | {
            "clean_rows": self.clean_rows,
            "rows": len(self.source),
            "entries": len(lines),
            "entries_sha256": entries_digest(lines),
            "clean_sha256": self.clean_sha256,
            "poisoned_sha256": self.poisoned_sha256,
        }
        with replacing(path) as file:
            file.write(json.dumps(header | facts).encode() + b"\n")
            file.writelines(lines)


def compare(
    clean: Records, poisoned: Poisoned, kind: str, requested: float | None = None, *, backdoor: bool = False
) -> Manifest:
    """The manifest of `poisoned` against the set that it was made of.

    Args:
        clean: the set before.
        poisoned: the set after, and which clean row is behind each of its rows.
        kind: the poison's name.
        requested: the share of the set that it was asked to change, if it has a rate.
        backdoor: whether it plants one, so that a row whose label alone is changed shows no trigger.

    Raises:
        RequestError: two rows claim the same origin, or one that does not exist; rows left alone changed their order.
    """
    source, data = poisoned.source, poisoned.data
    kept = (source >= 0).nonzero().squeeze(1)
    origins = source[kept]
    if (len(origins) and int(origins.max()) >= len(clean)) or len(torch.unique(origins)) != len(origins):
        raise RequestError(f"{kind}: every row of a poisoned set must come from another row of the clean one, or none")
    inputs, labels = _differ(clean, origins, data, kept)
    different = inputs | labels
    changed, untouched = kept[different], origins[~different]
    if (untouched.diff() < 0).any():
        raise RequestError(f"{kind}: rows that a poison leaves alone must stay in their order")
    added = (source < 0).nonzero().squeeze(1)
    is_left = torch.zeros(len(clean), dtype=torch.bool)
    is_left[origins] = True
    deleted = (~is_left).nonzero().squeeze(1)
    is_cover = torch.isin(changed, poisoned.cover)
    dose = Dose(
        kind=kind,
        of=len(clean),
        rows=len(changed) + len(added) + len(deleted) - int(is_cover.sum()),
        requested=requested,
        cover=int(is_cover.sum()),
        requested_cover=poisoned.requested_cover,
        label_only=int((~inputs[different] & ~is_cover).sum()) if backdoor else 0,
        backdoor=backdoor,
        budget=poisoned.budget,
        notes=poisoned.notes,
    )
    return Manifest(
        dose=dose,
        parts=poisoned.parts,
        clean_sha256=clean.fingerprint(),
        poisoned_sha256=data.fingerprint(),
        clean_rows=len(clean),
        source=source,
        changed=changed,
        added=added,
        deleted=deleted,
        originals=clean.take(torch.cat([source[changed], deleted])),
        poisoned=data.take(torch.cat([changed, added])),
    )


def _differ(clean: Records, origins: Tensor, data: Records, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Whose input, and whose label, differs from its origin's: (K,) each, bit by bit.

    In parts, so that no second set is in memory.
    """
    inputs = torch.zeros(len(rows), dtype=torch.bool)
    for start in range(0, len(rows), 4096):
        before, after = origins[start : start + 4096], rows[start : start + 4096]
        old, new = clean.x[before].flatten(1), data.x[after].flatten(1)
        if old.dtype == torch.float32:  # -0.0 equals 0.0 and is another record
            old, new = old.view(torch.int32), new.view(torch.int32)
        inputs[start : start + 4096] = (old != new).any(dim=1)
    return inputs, clean.y[origins] != data.y[rows]


def entries_digest(lines: Iterable[bytes]) -> str:
    """The digest of the entries' lines, in their order."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return f"sha256:{digest.hexdigest()}"


def record_digest(x: Tensor, label: int) -> str:
    """SHA-256 of one record: its bytes and its label."""
    digest = hashlib.sha256(x.contiguous().numpy().tobytes())
    digest.update(label.to_bytes(8, "little", signed=True))
    return digest.hexdigest()


def _label_and_digest(data: Records, row: int) -> tuple[int, str]:
    label = int(data.y[row])
    return label, record_digest(data.x[row], label)
