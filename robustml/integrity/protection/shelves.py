"""What lies in the places, and which version of the set stands.

A version stands where the heads of at least `need` places say so: heads are written once all shards lie whole, and what
was there before is removed last, so that a crash at any moment leaves the old version standing or the new one. Of
several the newest stands. The newest that was ever seen with a key is noted beside the key: places that agree on an
older one are refused as a replay.

What an attacker who has up to `places - need` places can do: alter, lose, swap or withhold what lies there, and give
back what lay there earlier. Each is found and healed. What they cannot do, even with all places: read the set, make a
chunk or a head of their own, or have anything restored but what was protected. With more places they can make a
restore impossible; one that has all places that answer can give back an older version to somebody who has not seen a
newer one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from robustml.errors import RequestError, RunFailed
from robustml.integrity.protection.datakey import DataKey
from robustml.integrity.protection.heads import LARGEST_HEAD, OTHER_KEY, Head, Unreadable, open_head, seal_head
from robustml.integrity.protection.places import Place, PlaceFailed, everywhere

_HEAD = re.compile(r"robustml-(\d{8})\.(\d{4})\.head")
_OURS = re.compile(r"robustml-\d{8}(?:\.\d{4}\.head|-[0-9a-f]{2,64}\.shard)")
# Between two cleanings there are two versions, and for each a head more that healing has written.
_MOST_HEADS = 6


@dataclass
class Shelf:
    """What a place has.

    Attributes:
        place: whose it is.
        number: of the place, from 0.
        names: of our files in it.
        heads: that are authentic, with their names, the newest first.
        wrong: why it has none; None where it has one.
        foreign: there is a head that was sealed with another key.
        down: the place did not answer.
    """

    place: Place
    number: int
    names: list[str] = field(default_factory=list)
    heads: list[tuple[str, Head]] = field(default_factory=list)
    wrong: str | None = None
    foreign: bool = False
    down: bool = False

    def head(self, group: tuple[str, int, str]) -> tuple[str, Head] | None:
        """The last head of a version that was written for this place."""
        own = ((name, head) for name, head in self.heads if head.group == group and head.shard == self.number)
        return next(own, None)

    def against(self, standing: Head) -> str | None:
        """What is wrong with the place, given the version that stands."""
        if not self.heads or self.head(standing.group):
            return self.wrong
        for _, head in self.heads:
            if head.group == standing.group:
                return f"has the shard of place {head.shard + 1}"
        head = self.heads[0][1]
        if head.series != standing.series:
            return f"has a shard of another set, {head.name!r}"
        return f"has version {head.version} of the set, not {standing.version}"


def head_name(version: int, names: Sequence[str]) -> str:
    """The name of the next head of a version, given the names that are there."""
    found = (_HEAD.fullmatch(name) for name in names)
    used = [int(match[2]) for match in found if match is not None and int(match[1]) == version]
    return f"robustml-{version:08}.{max(used, default=-1) + 1:04}.head"


def look(places: Sequence[Place], key: DataKey) -> list[Shelf]:
    """Look into all places at once."""
    shelves = [Shelf(place, number) for number, place in enumerate(places)]
    for shelf, found in zip(shelves, everywhere(places, _heads_in), strict=True):
        if isinstance(found, PlaceFailed):
            shelf.wrong, shelf.down = str(found), True
            continue
        shelf.names, heads = found
        unreadable = "lost"
        for name, content in heads:
            try:
                shelf.heads.append((name, open_head(content, key)))
            except Unreadable as error:
                unreadable = str(error)
                shelf.foreign |= unreadable == OTHER_KEY
        shelf.wrong = None if shelf.heads else unreadable
    return shelves


def _heads_in(place: Place) -> tuple[list[str], list[tuple[str, bytes]]]:
    names = [name for name in place.store.names() if _OURS.fullmatch(name)]
    heads = sorted(filter(_HEAD.fullmatch, names), reverse=True)[:_MOST_HEADS]
    return names, [(name, _content(place, name)) for name in heads]


def _content(place: Place, name: str) -> bytes:
    file = place.store.read(name)
    try:
        return file.read(LARGEST_HEAD)
    finally:
        file.close()


def standing(shelves: Sequence[Shelf], key: DataKey) -> Head | None:
    """A head of the version that stands, of the set that most places have; None where none does.

    Raises:
        RequestError: what lies there is sealed with another key.
    """
    found = [(shelf.number, head) for shelf in shelves for _, head in shelf.heads]
    if not found and any(shelf.foreign for shelf in shelves):
        raise RequestError(f"the places hold a set that was sealed with another key than {key.path}")
    return max(
        (head for _, head in found if len(_vouching(found, head)) >= head.need),
        key=lambda head: (len({number for number, other in found if other.series == head.series}), head.version),
        default=None,
    )


def _vouching(found: Sequence[tuple[int, Head]], head: Head) -> set[int]:
    return {number for number, other in found if other.group == head.group}


def nothing_stands(shelves: Sequence[Shelf]) -> RunFailed:
    """The error where none does."""
    found = [(shelf.number, head) for shelf in shelves for _, head in shelf.heads]
    best = max((head for _, head in found), key=lambda head: (len(_vouching(found, head)), head.version), default=None)
    if best is not None:
        wrong = {shelf.number: said for shelf in shelves if (said := shelf.against(best)) is not None}
        return too_few(shelves, best, len(_vouching(found, best)), wrong)
    wrong = {shelf.number: shelf.wrong or "" for shelf in shelves}
    return RunFailed(f"none of the places has a protected set ({refused(shelves, wrong)})")


def too_few(shelves: Sequence[Shelf], head: Head, good: int, wrong: Mapping[int, str]) -> RunFailed:
    """The error where so few shards are good."""
    return RunFailed(
        f"{head.name!r} cannot be restored: {good} of its {head.places} shards are good, and {head.need} are needed "
        f"({refused(shelves, wrong)}); nothing was changed"
    )


def publish(shelf: Shelf, tag: str, head: Head, key: DataKey) -> Future[None]:
    """Begin to write the head of a shard that lies in its place already."""
    own = head.model_copy(update={"shard": shelf.number, "tag": tag})
    name, content = head_name(head.version, shelf.names), seal_head(own, key)
    return shelf.place.ask(lambda: shelf.place.store.create(name, content))


def clean(shelf: Shelf, head: Head | None, kept: set[str]) -> None:
    """Remove our files from a place, but for some, and for those of other sets; what stays is asked for the next time.

    Args:
        shelf: the place; `names` are then those that it keeps.
        head: of the set.
        kept: the names of the files that stay.
    """
    gone = {*shelf.names}
    if shelf.foreign or any(head is None or other.series != head.series for _, other in shelf.heads):
        own = [(name, other) for name, other in shelf.heads if head is None or other.series == head.series]
        gone = {name for name, _ in own} | {other.file for _, other in own}
    asked = [shelf.place.ask(shelf.place.store.remove, name) for name in sorted(gone - kept)]
    shelf.names = [name for name in shelf.names if name not in gone - kept]
    with suppress(PlaceFailed):
        for future in asked:
            shelf.place.answer(future)


def check_replay(head: Head, key: DataKey) -> None:
    """Refuse a version that is older than the newest that was seen with this key; remember one that is not.

    Raises:
        RunFailed: it is older.
    """
    if head.version < (seen := key.newest_seen(head.series)):
        raise RunFailed(
            f"the places agree on version {head.version} of {head.name!r}, but {key.path} has seen version {seen}: a "
            f"replay of an older set; remove {key.note} to take it all the same"
        )
    key.remember(head.series, head.version)


def refused(shelves: Sequence[Shelf], wrong: Mapping[int, str]) -> str:
    """The places that something is wrong with, each with what it is."""
    return "; ".join(f"{shelf.place}: {wrong[shelf.number]}" for shelf in shelves if shelf.number in wrong)
