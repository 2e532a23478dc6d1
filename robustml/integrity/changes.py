"""Two states of a part, record by record, in words: what was altered, deleted, inserted, moved, swapped or renamed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from robustml.integrity.alignment import align
from robustml.integrity.manifest import Digested, Digests, readable
from robustml.results.integrity import RecordChange

Content = tuple[bytes | None, ...]


@dataclass
class State:
    """The records of a part as they are found, with those that cannot be read in their places.

    Attributes:
        digests: of each; of those that cannot be read, a leaf that nothing else has.
        unreadable: why, by place.
    """

    digests: Digests = field(default_factory=lambda: Digests([], [], [], {}, []))
    unreadable: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many there are, read or not."""
        return len(self.digests.leaves)

    def add(self, record: Digested) -> None:
        """Append a record."""
        self._append(record.row, record.name, record.label, record.leaf, record.fields)

    def add_unreadable(self, row: int, name: str, reason: str) -> None:
        """Append one that cannot be read."""
        self.unreadable[self.count] = reason
        self._append(row, name, None, f"unreadable {self.count}".encode(), {})

    def _append(self, row: int, name: str, label: str | None, leaf: bytes, fields: Mapping[str, bytes | None]) -> None:
        for known in fields.keys() - self.digests.fields.keys():
            self.digests.fields[known] = [None] * self.count
        for known, column in self.digests.fields.items():
            column.append(fields.get(known))
        self.digests.rows.append(row)
        self.digests.names.append(name)
        self.digests.labels.append(label)
        self.digests.leaves.append(leaf)


def changes_of(part: str, old: Digests, new: State) -> list[RecordChange]:
    """What became of the records of a part, in the order in which they were signed.

    Where every record has a file of its own, its name says which it is; else its content and place do.
    """
    return _Changes(part, old, new).found()


class _Changes:
    def __init__(self, part: str, old: Digests, new: State) -> None:
        self.part, self.old, self.new, self.unreadable = part, old, new.digests, new.unreadable
        names = {**dict.fromkeys(old.fields), **dict.fromkeys(new.digests.fields)}
        self.fields = list(names)
        nothing: Sequence[bytes | None] = ()
        self.pairs = [(name, old.fields.get(name, nothing), new.digests.fields.get(name, nothing)) for name in names]

    def found(self) -> list[RecordChange]:
        altered, deleted, inserted, changes = self._by_name() if self._named() else self._by_content()
        for i, j in altered:
            changes.append((i, self._altered(i, j)))
        homeless = self._moved_and_altered(deleted, inserted, changes)
        last = len(self.old.rows)
        for i in sorted(deleted - homeless[0]):
            changes.append((i, self._change(i, "deleted")))
        for j in sorted(inserted - homeless[1]):
            if j not in self.unreadable:
                changes.append((last + j, self._inserted(j)))
        return [change for _, change in sorted(changes, key=lambda each: each[0]) if change is not None]

    def _named(self) -> bool:
        return all(len(set(side.names)) == len(side.names) and all(side.names) for side in (self.old, self.new))

    def _by_name(self) -> tuple[list[tuple[int, int]], set[int], set[int], list[tuple[int, RecordChange | None]]]:
        where = {name: place for place, name in enumerate(self.new.names)}
        both = [(i, where[name]) for i, name in enumerate(self.old.names) if name in where]
        altered = [(i, j) for i, j in both if self.old.leaves[i] != self.new.leaves[j]]
        gone, come = {i for i, _ in both}, {j for _, j in both}
        return altered, {*range(len(self.old.rows))} - gone, {*range(len(self.new.rows))} - come, []

    def _by_content(self) -> tuple[list[tuple[int, int]], set[int], set[int], list[tuple[int, RecordChange | None]]]:
        aligned = align(self.old.leaves, self.new.leaves, self._alike)
        changes: list[tuple[int, RecordChange | None]] = []
        for (i, _), (j, _) in aligned.swapped:
            changes += [(a, self._change(a, "swapped", now=self._id(self.old, b))) for a, b in ((i, j), (j, i))]
        changes += [(i, self._change(i, "moved", now=self._id(self.new, j))) for i, j in aligned.moved]
        return aligned.altered, {*aligned.deleted}, {*aligned.inserted}, changes

    def _alike(self, i: int, j: int) -> float:
        return 1 - len(self._differing(i, j)) / (len(self.fields) + 1)

    def _differing(self, i: int, j: int) -> list[str]:
        differ = [name for name, a, b in self.pairs if (a[i] if a else None) != (b[j] if b else None)]
        return differ + (["label"] if self.old.labels[i] != self.new.labels[j] else [])

    def _altered(self, i: int, j: int) -> RecordChange | None:
        if (reason := self.unreadable.get(j)) is not None:
            return self._change(i, "unreadable", note=reason)
        fields = self._differing(i, j)
        note, inputs = "", [name for name in fields if name.split(".")[0] == "input"]
        if inputs and (other := self._whose.get(self._content(self.new, j))) is not None:
            if fields == inputs and self._became.get(other) == self._content(self.old, i):
                return self._change(i, "swapped", j, fields, now=self._id(self.old, other))
            note = f"its input is that of {self._id(self.old, other)}"
        return self._change(i, "altered", j, fields, note=note)

    def _inserted(self, j: int) -> RecordChange:
        other = self._whose.get(self._content(self.new, j))
        return RecordChange(
            record=self._id(self.new, j),
            change="inserted",
            file=self.new.names[j],
            note="" if other is None else f"a copy of {self._id(self.old, other)}",
            digests=(None, self._digest(self.new, j)),
        )

    def _moved_and_altered(
        self, deleted: set[int], inserted: set[int], changes: list[tuple[int, RecordChange | None]]
    ) -> tuple[set[int], set[int]]:
        """Of what is gone here and new there, the same input is the same record: renamed, or in another class."""
        waiting: dict[Content, list[int]] = {}
        for j in sorted(inserted - self.unreadable.keys()):
            waiting.setdefault(self._content(self.new, j), []).append(j)
        gone, come = set[int](), set[int]()
        for i in sorted(deleted):
            if not (there := waiting.get(self._content(self.old, i))):
                continue
            # of several equal ones, the one that kept its class
            j = next((j for j in there if self.new.labels[j] == self.old.labels[i]), there[0])
            there.remove(j)
            fields, named = self._differing(i, j), bool(self.new.names[j])
            now = self.new.names[j] if named else self._id(self.new, j)
            changes.append((i, self._change(i, "renamed" if named and not fields else "moved", j, fields, now=now)))
            gone.add(i)
            come.add(j)
        return gone, come

    @cached_property
    def _whose(self) -> dict[Content, int]:
        """The first record of each input."""
        return {self._content(self.old, i): i for i in reversed(range(len(self.old.rows)))}

    @cached_property
    def _became(self) -> dict[int, Content]:
        """The inputs that stand now where records were signed, as far as rows or names tell."""
        keys = self.new.names if self._named() else self.new.rows
        now = {key: j for j, key in enumerate(keys) if j not in self.unreadable}
        signed: Iterable[str | int] = self.old.names if self._named() else self.old.rows
        return {i: self._content(self.new, now[key]) for i, key in enumerate(signed) if key in now}

    def _content(self, side: Digests, place: int) -> Content:
        inputs = (name for name in self.fields if name.split(".")[0] == "input")
        return tuple(side.fields[name][place] if name in side.fields else None for name in inputs)

    def _digest(self, side: Digests, place: int) -> str | None:
        digest = side.fields["input"][place] if "input" in side.fields else None
        return None if digest is None else f"sha256:{digest.hex()}"

    def _id(self, side: Digests, place: int) -> str:
        return f"{self.part} {side.rows[place]}"

    def _change(
        self, i: int, change: str, j: int | None = None, fields: Sequence[str] = (), *, now: str = "", note: str = ""
    ) -> RecordChange:
        label = None
        if j is not None and "label" in fields:
            both = self.old.labels[i], self.new.labels[j]
            label = tuple(None if one is None else readable(one) for one in both)
        return RecordChange.model_validate(
            {
                "record": self._id(self.old, i),
                "change": change,
                "file": self.old.names[i],
                "fields": list(fields),
                "label": label,
                "now": now,
                "note": note,
                "digests": (self._digest(self.old, i), None if j is None else self._digest(self.new, j)),
            }
        )
