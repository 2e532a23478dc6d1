"""What a poison is, and its plan: which records become what, told by their ids and read off the bytes.

No poison writes its own plan: `planned` compares the set before with the set after, so that it can neither claim a
change that is not there nor leave one out. A plan holds the records that differ, before and after, so that it can be
applied again at little cost, to a part of the set as well as to the whole, and taken back bit for bit. Its digests
prove that all fits together, not who made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from robustml.data import Records, record_name
from robustml.errors import RequestError
from robustml.poisoning.compare import differ, matched
from robustml.results import PoisonSummary

__all__ = ["Backdoor", "Entry", "Poison", "PoisonPlan", "Triggered"]


class Entry(NamedTuple):
    """One record of a plan: rows in the `before` and the `after` of the plan, None where it is in one of them only."""

    id: int
    change: Literal["changed", "cover", "added", "deleted"]
    before: int | None
    after: int | None


@dataclass(frozen=True, eq=False)
class PoisonPlan:
    """What was done to a set.

    Attributes:
        summary: what was asked for and what was done, in figures.
        before: the records that are changed or deleted, as they were.
        after: the records that are changed or added, as they are then.
        places: the row in the clean set of each record of `before`.
        cover: ids (K,) of changed records that are not the poison's own.
        last: the id of the last record of the clean set: added ones follow it.
        rows: how many records the clean set has.
        clean_sha256: the fingerprint of the clean set, over every record and their order.
        poisoned_sha256: that of the poisoned one.
    """

    summary: PoisonSummary
    before: Records
    after: Records
    places: Tensor
    cover: Tensor
    last: int
    rows: int
    clean_sha256: str
    poisoned_sha256: str

    def __len__(self) -> int:
        """How many records differ, cover included."""
        return len(self.before) + int((~torch.isin(self.after.ids, self.before.ids)).sum())

    def entries(self) -> Iterator[Entry]:
        """The records that differ: those changed or deleted, then those added."""
        cover, now = set(self.cover.tolist()), {identity: row for row, identity in enumerate(self.after.ids.tolist())}
        for row, identity in enumerate(self.before.ids.tolist()):
            after = now.pop(identity, None)
            yield Entry(
                identity, "deleted" if after is None else "cover" if identity in cover else "changed", row, after
            )
        for identity, row in now.items():
            yield Entry(identity, "added", None, row)

    def apply(self, records: Records) -> Records:
        """What becomes of records of the clean set: of all of them, or of any part.

        Parts in their order give the whole; records that are added come with the last one of the clean set.

        Args:
            records: the clean set or a part of it; a record that the plan does not name is left as it is.

        Raises:
            RequestError: one of them is not what it was when the plan was made, or they are of other classes.
        """
        rows = self._found(records, self.before)
        now = matched(records.ids, self.after.ids)
        is_changed = now >= 0
        poisoned = records
        if is_changed.any():
            new = self.after.take(now[is_changed])
            poisoned = records.changed(is_changed.nonzero().squeeze(1), new.x, new.y)
        is_deleted = torch.zeros(len(records), dtype=torch.bool)
        is_deleted[rows] = ~is_changed[rows]
        if is_deleted.any():
            poisoned = poisoned.take((~is_deleted).nonzero().squeeze(1))
        is_added = ~torch.isin(self.after.ids, self.before.ids)
        if is_added.any() and bool((records.ids == self.last).any()):
            poisoned = poisoned.joined(self.after.take(is_added.nonzero().squeeze(1)))
        return poisoned

    def restore(self, poisoned: Records) -> Records:
        """The clean set, bit for bit, out of the poisoned one.

        Raises:
            RequestError: it is not the set that this plan leaves.
        """
        rows = self._found(poisoned, self.after)
        is_touched = torch.zeros(len(poisoned), dtype=torch.bool)
        is_touched[rows] = True
        is_own = torch.isin(self.before.ids, poisoned.ids) | ~torch.isin(self.before.ids, self.after.ids)
        before, places = self.before.take(is_own.nonzero().squeeze(1)), self.places[is_own]
        found, expected = len(poisoned) - len(rows), self.rows - len(places)
        if found != expected:
            raise RequestError(f"the plan leaves {expected} records as they were, the set has {found}")
        is_lost = torch.zeros(self.rows, dtype=torch.bool)
        is_lost[places] = True
        untouched = poisoned.take((~is_touched).nonzero().squeeze(1))
        x, y = poisoned.x.new_empty(self.rows, *poisoned.x.shape[1:]), poisoned.y.new_empty(self.rows)
        ids = poisoned.ids.new_empty(self.rows)
        for part, kept in ((x, "x"), (y, "y"), (ids, "ids")):
            part[~is_lost], part[places] = getattr(untouched, kept), getattr(before, kept)
        clean = Records(x, y, poisoned.class_names, ids=ids)
        if clean.fingerprint() != self.clean_sha256:
            raise RequestError("the set that comes out is not the one that was poisoned")
        return clean

    def reaching(self, other: PoisonPlan) -> PoisonPlan:
        """The same plan with the records of another part, of which that of `other` is; the figures stay."""
        return replace(
            self,
            before=self.before.joined(other.before),
            after=self.after.joined(other.after),
            places=torch.cat([self.places, other.places]),
        )

    def _found(self, records: Records, known: Records) -> Tensor:
        """The rows of `records` that are in `known`, once they are found to be the same.

        Raises:
            RequestError: they are not.
        """
        kinds = [(each.class_names, each.x.shape[1:], each.x.dtype) for each in (records, known)]
        if kinds[0] != kinds[1]:
            raise RequestError("the plan is of a set of other classes, or of inputs of another shape or type")
        places = matched(records.ids, known.ids)
        rows, places = (places >= 0).nonzero().squeeze(1), places[places >= 0]
        inputs, labels = differ(records, rows, known, places)
        if bool((differs := inputs | labels).any()):
            name = record_name(int(records.ids[rows[differs][0]]))
            raise RequestError(f"record {name} is not the one that the plan was made for: the data were altered since")
        return rows


@runtime_checkable
class Poison(Protocol):
    """Something that changes a training set. The same seed changes the same records in the same way.

    A `rate` is the share of the whole set that is changed, added or deleted: exactly ``round(rate * N)`` records. What
    else is changed, the cover, does not count towards it. Labels are only ever changed to classes that have records.
    """

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """Choose and craft, once: which records are changed, and what becomes of each. `records` are not touched.

        Make the poisoned set in any way and return ``planned(self, records, poisoned)``, which compares the two.
        """
        ...


class Triggered(NamedTuple):
    """Inputs that the attacker shows to the trained model, and what he wants to hear."""

    x: Tensor
    """(K, ...), in the dtype of the set: uint8 images, or float32 in [0, 1]."""
    y: Tensor
    """The true labels (K,)."""
    target: Tensor
    """The labels that he wants (K,), never the true ones."""


@runtime_checkable
class Backdoor(Poison, Protocol):
    """A poison whose effect shows on inputs that the attacker chooses."""

    def triggered(self, test: Records) -> Triggered:
        """The test inputs that he shows: those of non-target classes, with the trigger where there is one."""
        ...

    @property
    def target(self) -> int | str:
        """The class that he aims at, or words where there are many, such as ``"y + 1"``."""
        ...
