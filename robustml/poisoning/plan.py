"""What a poison is, and its plan: which records become what, told by their ids and read off the bytes.

No poison writes its own plan: `planned` compares the set before with the set after, so that it can neither claim a
change that is not there nor leave one out. A plan holds the records that differ, before and after, so that it can be
applied again at little cost, to a part of the set as well as to the whole, and taken back bit for bit. Its digests
prove that all fits together, not who made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from robustml.data import Records, record_name
from robustml.errors import RequestError
from robustml.poisoning.compare import differ, matched
from robustml.results import Budget, Dose, PoisonSummary

_NO_IDS = torch.empty(0, dtype=torch.int64)


Change = Literal["changed", "cover", "added", "deleted"]


class Entry(NamedTuple):
    """One record of a plan: rows in the `before` and the `after` of the plan, None where it is in one of them only."""

    id: int
    change: Change
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
        learned: what was trained to craft it and makes its triggers too, such as the weights of a generator; by name.
        test_sha256: the fingerprint of the test part that lies beside a poisoned set on disk.
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
    learned: Mapping[str, Tensor] = field(default_factory=dict)
    test_sha256: str | None = None

    def __len__(self) -> int:
        """How many records differ, cover included."""
        return len(self.before) + int(self._is_added.sum())

    @property
    def _is_added(self) -> Tensor:
        return ~torch.isin(self.after.ids, self.before.ids)

    def entries(self) -> Iterator[Entry]:
        """The records that differ: those changed or deleted, then those added."""
        cover, now = set(self.cover.tolist()), {identity: row for row, identity in enumerate(self.after.ids.tolist())}
        for row, identity in enumerate(self.before.ids.tolist()):
            after = now.pop(identity, None)
            change: Change = "deleted" if after is None else "cover" if identity in cover else "changed"
            yield Entry(identity, change, row, after)
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
        stays = torch.ones(len(records), dtype=torch.bool)
        stays[rows] = is_changed[rows]
        if not stays.all():
            poisoned = poisoned.take(stays.nonzero().squeeze(1))
        if self._is_added.any() and bool((records.ids == self.last).any()):
            poisoned = poisoned.joined(self.after.take(self._is_added.nonzero().squeeze(1)))
        return poisoned

    def restore(self, poisoned: Records) -> Records:
        """The clean set, bit for bit, out of the poisoned one.

        Raises:
            RequestError: it is not the set that this plan leaves.
        """
        untouched = torch.ones(len(poisoned), dtype=torch.bool)
        untouched[self._found(poisoned, self.after)] = False
        kept = poisoned.take(untouched.nonzero().squeeze(1))
        is_own = torch.isin(self.before.ids, poisoned.ids) | ~torch.isin(self.before.ids, self.after.ids)
        before, places = self.before.take(is_own.nonzero().squeeze(1)), self.places[is_own]
        if len(kept) != self.rows - len(places):
            raise RequestError(
                f"the plan leaves {self.rows - len(places)} records as they were, the set has {len(kept)}"
            )
        is_kept = torch.ones(self.rows, dtype=torch.bool)
        is_kept[places] = False
        x, y, ids = (values.new_empty(self.rows, *values.shape[1:]) for values in (kept.x, kept.y, kept.ids))
        for whole, same, old in ((x, kept.x, before.x), (y, kept.y, before.y), (ids, kept.ids, before.ids)):
            whole[is_kept], whole[places] = same, old
        clean = Records(x, y, poisoned.class_names, ids=ids)
        if clean.fingerprint() != self.clean_sha256:
            raise RequestError("the set that comes out is not the one that was poisoned")
        return clean

    def reaching(self, other: PoisonPlan) -> PoisonPlan:
        """The same plan with the records of another part, of which that of `other` is; the figures stay."""
        before, after = self.before.joined(other.before), self.after.joined(other.after)
        return replace(self, before=before, after=after, places=torch.cat([self.places, other.places]))

    def _found(self, records: Records, known: Records) -> Tensor:
        """The rows of `records` that are in `known`, once they are found to be the same."""
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
    does not count towards it is cover. Labels are only ever changed to classes that have records.
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
    """A poison whose effect shows on inputs that the attacker chooses.

    One that learns its triggers hands what it learned to `planned`, and has a method ``recalling(learned)``: the same
    backdoor with that, so that whoever reads the plan shows the same inputs and trains nothing.
    """

    def triggered(self, test: Records) -> Triggered:
        """The test inputs that he shows: those of non-target classes, with the trigger where there is one."""
        ...

    @property
    def target(self) -> int | str:
        """The class that he aims at, or words where there are many, such as ``"y + 1"``."""
        ...


def kind_of(poison: Poison) -> str:
    """What to call a poison: the file that it is in (one paper a file), or the kinds of several in turn."""
    several = getattr(poison, "poisons", None)
    return "+".join(map(kind_of, several.values())) if several else type(poison).__module__.rpartition(".")[2]


def planned(
    poison: Poison,
    clean: Records,
    poisoned: Records,
    *,
    cover: Tensor = _NO_IDS,
    requested_cover: float | None = None,
    budget: Budget | None = None,
    notes: tuple[str, ...] = (),
    parts: tuple[Dose, ...] = (),
    learned: Mapping[str, Tensor] | None = None,
) -> PoisonPlan:
    """The plan that makes `poisoned` out of `clean`.

    Args:
        poison: whose it is; says what was asked for (`rate`), and whether it is a backdoor.
        clean: the set before, each record once.
        poisoned: the set after. Records keep their id and their order; those that are added stand at the end.
        cover: ids (K,) of records that were changed beside the poison's own so that it works or hides better.
        requested_cover: the share of the set that those were to be.
        budget: of crafted changes.
        notes: what else a reader of the figures must know.
        parts: the figures of each of several poisons in turn.
        learned: what its triggers are made with, where that was trained.

    Raises:
        RequestError: records are there twice, or out of order; or records were to be changed and none is, or none of
            them shows the trigger.
    """
    kind = kind_of(poison)
    if len(torch.unique(clean.ids)) != len(clean):
        raise RequestError(
            f"{kind}: a set to be poisoned must hold every record once: poison it first, resample it then"
        )
    origins = matched(poisoned.ids, clean.ids)
    kept = (origins >= 0).nonzero().squeeze(1)
    if bool((origins[: len(kept)] < 0).any()) or bool((origins[kept].diff() <= 0).any()):
        raise RequestError(f"{kind}: records must stay in their order, each once, and added ones stand at the end")
    inputs, labels = differ(poisoned, kept, clean, origins[kept])
    changed = inputs | labels
    is_left = torch.zeros(len(clean), dtype=torch.bool)
    is_left[origins[kept]] = True
    places = torch.cat([origins[kept][changed], (~is_left).nonzero().squeeze(1)])
    is_cover = torch.isin(poisoned.ids[kept][changed], cover)
    added, beside = torch.arange(len(kept), len(poisoned)), int(is_cover.sum())
    count, backdoor = len(places) + len(added) - beside, isinstance(poison, Backdoor)
    requested: float | None = getattr(poison, "rate", None)
    asked = None if requested is None else round(requested * len(clean))
    label_only = int((~inputs[changed] & ~is_cover).sum()) if backdoor else 0
    if not count and asked != 0 and (backdoor or asked is not None):
        raise RequestError(
            f"poison: {kind} changes no row, since all that were drawn looked so before: choose other settings"
        )
    if count and label_only == count:
        raise RequestError(
            f"poison: the trigger of {kind} changes nothing in any of the {count:,} rows: choose another value, "
            "place or strength"
        )
    reasons = []
    if asked is not None and count != asked:
        reasons.append(f"{asked - count:,} of the {asked:,} rows drawn looked so before")
    if requested_cover is not None and (gap := round(requested_cover * len(clean)) - beside):
        reasons.append(f"{gap:,} of the cover's rows looked so before")
    if label_only:
        reasons.append(f"on {label_only:,} of the {count:,} rows the trigger changes nothing but the label")
    if budget is not None and abs(budget.stored - budget.asked) > 1e-5 * budget.asked:
        reasons.append(f"{budget.name} {budget.asked:.4g} asked for, at most {budget.stored:.4g} as stored")
    summary = PoisonSummary(
        kind=kind,
        rate=count / len(clean),
        requested_rate=requested,
        poisoned=count,
        cover=beside,
        cover_rate=beside / len(clean),
        requested_cover_rate=requested_cover,
        budget=budget,
        why="; ".join([*reasons, *notes]) or None,
        changed=int(changed.sum()),
        added=len(added),
        deleted=int((~is_left).sum()),
        parts=parts,
    )
    return PoisonPlan(
        summary=summary,
        before=clean.take(places),
        after=poisoned.take(torch.cat([kept[changed], added])),
        places=places,
        cover=poisoned.ids[kept][changed][is_cover],
        last=int(clean.ids[-1]),
        rows=len(clean),
        clean_sha256=clean.fingerprint(),
        poisoned_sha256=poisoned.fingerprint(),
        learned=learned or {},
    )
