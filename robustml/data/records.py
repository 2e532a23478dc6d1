"""A decoded set in memory: records with an id, an input and a label each, and the names of the classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from robustml.data.labels import unknown_classes
from robustml.data.splits import stratified_rows
from robustml.data.understood import Understood
from robustml.errors import RequestError

_PARTS = ("train", "test", "extra", "added")
_ROW_BITS = 40


def record_name(identity: int) -> str:
    """An id in words: ``train 17`` is row 17, from 0 on, of what the training part was read from."""
    return f"{_PARTS[identity >> _ROW_BITS]} {identity & (1 << _ROW_BITS) - 1}"


@dataclass(frozen=True, eq=False)  # tensors have no single truth value, so a generated __eq__ would raise
class Records:
    """A labelled set: record `ids[i]` is `x[i]`, of class `class_names[y[i]]`.

    An id says where a record was read from, and stays with it through splits, samples, poison and reordering: its row
    in the file (the order of the file names, for a folder), and in the upper bits whether that is of the training part,
    the test part or extra images. Records that a poison adds are numbered on their own.

    Args:
        x: images (N, C, H, W) as uint8 in 0..255, or anything else (N, ...) as float32 in [0, 1].
        y: labels (N,) as int64 in 0..len(class_names) - 1, on the device of `x`.
        class_names: one name a class, in label order.
        understood: what a source made of the files; of the part as it was loaded, so that no selection of rows has it.
        ids: (N,) int64, on the device of `x`; 0 to N - 1 if they are left out. A record that stands there twice has the
            same id twice.

    Raises:
        RequestError: on another dtype or shape, on a value or a label out of range, or on a repeated class name.
    """

    x: Tensor
    y: Tensor
    class_names: tuple[str, ...]
    understood: Understood = field(default=Understood(), repr=False)
    ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), repr=False)

    def __post_init__(self) -> None:
        """Refuse what the loaders could not serve."""
        if not len(self.ids):
            object.__setattr__(self, "ids", torch.arange(len(self.x), device=self.x.device))
        images = self.x.dtype == torch.uint8
        if not images and self.x.dtype != torch.float32:
            raise RequestError(f"expected x as uint8 images or float32 in [0, 1], got {self.x.dtype}; convert it")
        if images and self.x.ndim != 4:
            raise RequestError(f"expected uint8 images (N, C, H, W), got {tuple(self.x.shape)}")
        if self.y.dtype != torch.int64 or self.y.shape != self.x.shape[:1]:
            raise RequestError(
                f"expected {len(self.x)} int64 labels (N,), got {self.y.dtype} {tuple(self.y.shape)}; label each row"
            )
        if self.ids.dtype != torch.int64 or self.ids.shape != self.y.shape:
            raise RequestError(f"expected {len(self.x)} int64 ids (N,), got {self.ids.dtype} {tuple(self.ids.shape)}")
        if len(set(self.class_names)) != len(self.class_names):
            raise RequestError("expected distinct class names, but a name is repeated; rename one of the classes")
        if len(self.y) == 0:
            return
        low, high = (int(value) for value in torch.aminmax(self.y))
        if low < 0 or high >= len(self.class_names):
            raise RequestError(
                f"expected labels in 0..{len(self.class_names) - 1}, got {low}..{high}; mend them or name every class"
            )
        # written so that a NaN fails it too
        if not images and self.x.numel() and not (bool(self.x.min() >= 0) and bool(self.x.max() <= 1)):
            raise RequestError("expected float inputs in [0, 1], got values outside or NaN; scale them first")

    def __len__(self) -> int:
        """How many samples the set holds."""
        return len(self.y)

    def take(self, indices: Tensor) -> Records:
        """The rows at `indices` (K,) int64, in that order, as a copy."""
        indices = indices.to(self.y.device)
        x, y, ids = (values.index_select(0, indices) for values in (self.x, self.y, self.ids))
        return Records(x, y, self.class_names, ids=ids)

    def part(self, name: Literal["train", "test", "extra"]) -> Records:
        """The same records with ids that say which part they were read for; `ids` are mere rows so far."""
        return replace(self, ids=self.ids | (_PARTS.index(name) << _ROW_BITS))

    def changed(self, rows: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> Records:
        """The set with other inputs `x` (K, ...), other labels `y` (K,) or both in some `rows` (K,); None leaves them.

        Raises:
            RequestError: they are none that a set can hold.
        """
        new_x = self.x if x is None else self.x.index_copy(0, rows, x)
        new_y = self.y if y is None else self.y.index_copy(0, rows, y)
        return Records(new_x, new_y, self.class_names, ids=self.ids)

    def extended(self, x: Tensor, y: Tensor) -> Records:
        """The set with more records at its end: inputs `x` (K, ...) and labels `y` (K,), under ids of their own."""
        first = _PARTS.index("added") << _ROW_BITS
        if len(self.ids):
            first = max(first, int(self.ids.max()) + 1)
        ids = torch.arange(first, first + len(y), device=self.ids.device)
        return self.joined(Records(x, y, self.class_names, ids=ids))

    def joined(self, other: Records) -> Records:
        """These records, and after them those of `other`, whose classes and inputs are of the same kind."""
        x, y, ids = (torch.cat([getattr(part, name) for part in (self, other)]) for name in ("x", "y", "ids"))
        return Records(x, y, self.class_names, ids=ids)

    def sample(self, count: int, seed: int = 0) -> Records:
        """`count` rows drawn by `seed`, every class in proportion, in the order of the set; all where there are fewer.

        Never the first rows: those of a set that is sorted by class are of one class.
        """
        return self if count >= len(self) else self.take(stratified_rows(self.y, count, seed))

    def renamed(self, class_names: Sequence[str]) -> Records:
        """The same rows under the labels that `class_names` gives their classes: matched by name, never by number.

        Args:
            class_names: of whoever is to be understood: a training part, a run. Classes without a row here are fine.

        Raises:
            RequestError: rows of classes that are not among them, which are named.
        """
        names = tuple(class_names)
        if names == self.class_names:
            return self
        index = {name: label for label, name in enumerate(names)}
        label_of = torch.tensor([index.get(name, -1) for name in self.class_names], dtype=torch.int64)
        y = label_of.to(self.y.device)[self.y]
        if bool((y < 0).any()):
            unknown = [name for name in self.class_names if name not in (*index, *self.without_rows())]
            raise RequestError(unknown_classes(unknown, names))
        return replace(self, y=y, class_names=names)

    def without_rows(self) -> tuple[str, ...]:
        """The classes of which there is no sample."""
        present = torch.bincount(self.y, minlength=len(self.class_names)).tolist()
        return tuple(name for name, rows in zip(self.class_names, present, strict=True) if not rows)

    def to(self, device: torch.device | str) -> Records:
        """The same set on `device`; itself where it lives there already, so that loaders share one copy."""
        x = self.x.to(device)
        return self if x is self.x else replace(self, x=x, y=self.y.to(device), ids=self.ids.to(device))

    def fingerprint(self) -> str:
        """The identity of the content: ``sha256:`` over dtypes, shapes, bytes and class names, whatever the ids."""
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        for values in (self.x, self.y):
            digest.update(f"{values.dtype}{tuple(values.shape)}".encode())
            digest.update(values.detach().cpu().contiguous().view(-1).numpy().data)
        return f"sha256:{digest.hexdigest()}"
