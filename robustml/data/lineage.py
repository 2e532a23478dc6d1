"""Which records a model was trained on, told by their content: files may be added, moved or drawn anew."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from safetensors.torch import load, save
from torch import Tensor

from robustml.data.module import DataModule
from robustml.errors import RequestError

_PARTS = ("train", "val", "test", "before")


def record_digests(x: Tensor) -> Tensor:
    """A digest of 8 bytes for each record, whatever its label and place: (N,) int64 for `x` (N, ...).

    Equal records have equal digests; of 100,000 different ones two have the same with a chance of 3e-10.
    """
    rows = x.detach().cpu().contiguous().flatten(1) if x.ndim > 1 else x.detach().cpu().unsqueeze(1)
    start = hashlib.blake2b(f"{rows.dtype}{tuple(x.shape[1:])}".encode(), digest_size=8)
    found = []
    for row in rows.numpy():
        digest = start.copy()
        digest.update(row.data)
        found.append(int.from_bytes(digest.digest(), "big", signed=True))
    return torch.tensor(found, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Lineage:
    """The records of a run, as digests (N,) int64.

    Args:
        train: what it is trained on, before any poison.
        val: what its checkpoint is selected on.
        test: what it is judged on.
        before: what the weights that it began with had been trained or selected on.
        fitted_to: `DataModule.fitted_to`.
        ids: the ids of the records of `train`, `val` and `test`, in this order; empty where they are unknown.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    before: Tensor
    fitted_to: str | None = None
    ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    @classmethod
    def of(cls, data: DataModule, before: Lineage | None = None) -> Lineage:
        """Those of a set, for a model whose weights had seen the records of `before`."""
        nothing = torch.empty(0, dtype=torch.int64)
        return cls(
            record_digests(data.train.x),
            nothing if data.val is None else record_digests(data.val.x),
            record_digests(data.test.x),
            nothing if before is None else before.seen(),
            data.fitted_to,
            torch.cat([part.ids for part in (data.train, data.val, data.test) if part is not None]),
        )

    def seen(self) -> Tensor:
        """All that the weights depend on (N,)."""
        return torch.cat([self.train, self.val, self.before])

    def alike(self) -> int:
        """How many records of the test part have an equal one among those that the weights depend on."""
        return int(torch.isin(self.test, self.seen()).sum())

    def changed(self, other: Lineage) -> list[str]:
        """The parts of which the other records are not these, in this order."""
        return [part for part in _PARTS if not torch.equal(getattr(self, part), getattr(other, part))]

    def unseen(self, x: Tensor) -> tuple[Tensor, int]:
        """Which records a model may be judged on that was trained on these.

        A record that was in the test part already is judged as it was then, be there a copy in the training part.

        Args:
            x: records (N, ...).

        Returns:
            (N,) bool, and how many of all N were not in the test part.
        """
        digests = record_digests(x)
        judged = torch.isin(digests, self.test)
        return judged | ~torch.isin(digests, self.seen()), int((~judged).sum())

    def to_bytes(self) -> bytes:
        """As a file of a run directory holds it (safetensors)."""
        fitted_to = torch.tensor(list((self.fitted_to or "").encode("ascii")), dtype=torch.uint8)
        return save({name: getattr(self, name) for name in (*_PARTS, "ids")} | {"fitted_to": fitted_to})

    @classmethod
    def from_bytes(cls, content: bytes) -> Lineage:
        """What `to_bytes` wrote.

        Raises:
            RequestError: it is damaged, or something else.
        """
        try:
            tensors = load(content)
            train, val, test, before = parts = [tensors[name] for name in _PARTS]
            fitted_to = bytes(tensors["fitted_to"][:100].tolist()).decode(
                "ascii"
            )  # no more than a digest, whoever wrote
        except Exception as error:  # safetensors has an exception of its own for damage
            raise RequestError(f"it is no list of records: {str(error).splitlines()[0]}") from error
        if any(part.dtype != torch.int64 or part.ndim != 1 for part in parts):
            raise RequestError("it is no list of records: expected digests of 8 bytes")
        return cls(train, val, test, before, fitted_to or None, tensors.get("ids", torch.empty(0, dtype=torch.int64)))
