"""What was understood of the files of a set, to be said at loading: nothing is left out or changed without a word."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

_NAMED = 3


def listed(names: Iterable[object], most: int = _NAMED) -> str:
    """The first names, and how many more there are: ``a, b, c and 4 more``."""
    words = [str(name) for name in names]
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")


def printable(text: str) -> str:
    """A text of somebody else's files on one line, without what a terminal would act on or could not show."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


@dataclass(frozen=True)
class Column:
    """A feature as it stands in the file, before it is scaled.

    Args:
        name: of the column.
        low: its least value.
        high: its greatest.
        distinct: how many different values it has.
        missing: how many cells were empty, or a word for missing.
    """

    name: str
    low: float
    high: float
    distinct: int
    missing: int = 0


@dataclass(frozen=True)
class Skipped:
    """Files that were not read.

    Args:
        why: the reason, which they share.
        count: how many.
        first: the first of them.
    """

    why: str
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Understood:
    """What a source made of the files of one part.

    Args:
        facts: what was found or set, by name: ``{"separator": "';' (found)"}``.
        columns: the features of a table, in their order.
        ignored: columns that are no features, and why.
        skipped: files that were not read.
        notes: sentences on what may not be as it was meant.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Understood) -> Understood:
        """Both, as when a table lists pictures."""
        return Understood(
            {**self.facts, **other.facts},
            self.columns + other.columns,
            {**self.ignored, **other.ignored},
            self.skipped + other.skipped,
            self.notes + other.notes,
        )

    def noting(self, *notes: str) -> Understood:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def lines(self) -> list[str]:
        """The short form, a few lines, for the head of a run."""
        found = []
        if self.columns:
            missing = sum(column.missing for column in self.columns)
            found.append(
                f"{len(self.columns)} columns: {listed([column.name for column in self.columns], 12)}"
                + (f"; {missing} values missing" if missing else "")
                + f"; from {min(column.low for column in self.columns):g} to "
                f"{max(column.high for column in self.columns):g}, scaled to [0, 1]"
            )
        if self.ignored:
            found.append("ignored: " + listed([f"{name} ({why})" for name, why in self.ignored.items()], 6))
        if self.facts:
            found.append("; ".join(f"{name} {fact}" for name, fact in self.facts.items()))
        found += [f"skipped: {each.count} files, {each.why} ({listed(each.first)})" for each in self.skipped]
        return [printable(line) for line in found + [f"note: {note}" for note in self.notes]]

    def to_json(self) -> str:
        """As the cache keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Understood:
        """What `to_json` wrote."""
        kept = json.loads(text)
        return cls(
            kept["facts"],
            tuple(Column(**column) for column in kept["columns"]),
            kept["ignored"],
            tuple(Skipped(each["why"], each["count"], tuple(each["first"])) for each in kept["skipped"]),
            tuple(kept["notes"]),
        )


def summary_lines(parts: Mapping[str, Understood]) -> list[str]:
    """The short form of several parts: all lines of the first, and those of the others that say something else.

    Args:
        parts: by name, such as "train" and "test".
    """
    said: list[str] = []
    lines = []
    for name, understood in parts.items():
        fresh = [line for line in understood.lines() if line not in said]
        lines += [f"{name}: {line}" if said else line for line in fresh]
        said += fresh
    return lines
