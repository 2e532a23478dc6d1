"""What became of the records of a set, told by their digests: one that is deleted is one change, whatever moves up.

Records that stand in both states once are found wherever they are: pairs that changed places are swapped, the longest
run of others in order stays, and what is not in it is moved. Between those that stay, equal ones are matched by the
shortest edit script (Myers 1986), and of the rest those that are most alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Beyond so many edits between two records that stay, those in between are compared in order.
_MOST_EDITS = 1000
# Beyond so many pairs to choose from, the rest is paired in order.
_MOST_PAIRS = 250_000
_DELETED = 1.0

Codes = NDArray[np.int64]
Pair = tuple[int, int]


@dataclass
class Alignment:
    """Places in the old and the new state; every record of both stands in one list, or stayed.

    Attributes:
        moved: the same record elsewhere, (old, new).
        swapped: two of them that changed places, each as (old, new).
        altered: another record in the same place, (old, new).
        deleted: old places.
        inserted: new places.
    """

    moved: list[Pair] = field(default_factory=list)
    swapped: list[tuple[Pair, Pair]] = field(default_factory=list)
    altered: list[Pair] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    inserted: list[int] = field(default_factory=list)


def align(old: Sequence[bytes], new: Sequence[bytes], alike: Callable[[int, int], float]) -> Alignment:
    """What became of `old`.

    Args:
        old: a digest a record.
        new: the same of the new state.
        alike: for an old and a new place, which share of the two records is equal, in [0, 1].
    """
    numbers: dict[bytes, int] = {}
    a, b = (
        np.fromiter((numbers.setdefault(one, len(numbers)) for one in side), np.int64, len(side)) for side in (old, new)
    )
    start = _run(a, b, 0, 0)
    end = _run(a[start:][::-1], b[start:][::-1], 0, 0)
    found = Alignment()
    olds, news = range(start, len(a) - end), range(start, len(b) - end)
    pairs = _once(a, b, olds, news)
    swapped = _swapped(pairs)
    found.swapped = [(pairs[i], pairs[j]) for i, j in swapped]
    taken = {place for both in swapped for place in both}
    rest = [pair for place, pair in enumerate(pairs) if place not in taken]
    stays = [rest[place] for place in _rising([new_place for _, new_place in rest])]
    staying = {old_place for old_place, _ in stays}
    found.moved = [pair for pair in rest if pair[0] not in staying]
    known = {old_place for old_place, _ in pairs}, {new_place for _, new_place in pairs}
    for gap in _gaps(olds, news, stays, *known):
        _fill(gap, a, b, alike, found)
    _same_elsewhere(a, b, found)
    return found


def _run(a: Codes, b: Codes, x: int, y: int) -> int:
    """How many records from `x` and `y` on are equal."""
    length, step, most = 0, 16, min(len(a) - x, len(b) - y)
    while length < most:
        step = min(4 * step, most - length)
        differ = a[x + length : x + length + step] != b[y + length : y + length + step]
        if differ.any():
            return length + int(differ.argmax())
        length += step
    return length


def _once(a: Codes, b: Codes, olds: range, news: range) -> list[Pair]:
    """The places of records that stand once in both ranges, by their old places."""
    counts = [Counter(codes[places.start : places.stop].tolist()) for codes, places in ((a, olds), (b, news))]
    where = {code: place for place, code in zip(news, b[news.start : news.stop].tolist(), strict=True)}
    return [
        (place, where[code])
        for place, code in zip(olds, a[olds.start : olds.stop].tolist(), strict=True)
        if counts[0][code] == 1 and counts[1].get(code) == 1
    ]


def _swapped(pairs: Sequence[Pair]) -> list[Pair]:
    """Those, as places in `pairs`, that stand where the other stood, among records that are in both states."""
    order = {new: rank for rank, new in enumerate(sorted(new for _, new in pairs))}
    ranks = [order[new] for _, new in pairs]
    return [(place, rank) for place, rank in enumerate(ranks) if rank > place and ranks[rank] == place]


def _rising(values: Sequence[int]) -> list[int]:
    """Places of a longest rising subsequence."""
    ends: list[int] = []
    tails: list[int] = []
    before: list[int] = []
    for place, value in enumerate(values):
        at = bisect_left(tails, value)
        before.append(ends[at - 1] if at else -1)
        tails[at : at + 1], ends[at : at + 1] = [value], [place]
    chain, place = [], ends[-1] if ends else -1
    while place >= 0:
        chain.append(place)
        place = before[place]
    return chain[::-1]


def _gaps(
    olds: range, news: range, stays: Sequence[Pair], known_old: set[int], known_new: set[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """What is not known yet, old and new places, between one record that stays and the next."""
    ends = [*stays, (olds.stop, news.stop)]
    x, y = olds.start, news.start
    for next_x, next_y in ends:
        if next_x > x or next_y > y:
            left = [place for place in range(x, next_x) if place not in known_old]
            right = [place for place in range(y, next_y) if place not in known_new]
            if left or right:
                yield left, right
        x, y = next_x + 1, next_y + 1


def _fill(
    gap: tuple[list[int], list[int]], a: Codes, b: Codes, alike: Callable[[int, int], float], found: Alignment
) -> None:
    """Match what is equal in a gap, and pair what lies between."""
    left, right = gap
    x = y = 0
    for i, j in [*_matched(a[left], b[right]), (len(left), len(right))]:
        _pair(left[x:i], right[y:j], alike, found)
        x, y = i + 1, j + 1


def _matched(a: Codes, b: Codes) -> list[Pair]:
    """Places of equal records in the order of both, as many as there are; none beyond `_MOST_EDITS` edits."""
    if not np.isin(a, b).any():
        return []
    furthest, trail = {1: 0}, []
    for edits in range(min(_MOST_EDITS, len(a) + len(b)) + 1):
        trail.append(dict(furthest))
        for diagonal in range(-edits, edits + 1, 2):
            down = diagonal == -edits or (diagonal != edits and furthest[diagonal - 1] < furthest[diagonal + 1])
            x = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            if x <= len(a) and 0 <= x - diagonal <= len(b):
                x += _run(a, b, x, x - diagonal)
            furthest[diagonal] = x
            if x >= len(a) and x - diagonal >= len(b):
                return _back(trail, len(a), len(b))
    return []


def _back(trail: list[dict[int, int]], x: int, y: int) -> list[Pair]:
    """The matches on the way that was found."""
    matches: list[Pair] = []
    for edits in range(len(trail) - 1, -1, -1):
        furthest, diagonal = trail[edits], x - y
        down = diagonal == -edits or (
            diagonal != edits and furthest.get(diagonal - 1, -1) < furthest.get(diagonal + 1, -1)
        )
        before = diagonal + 1 if down else diagonal - 1
        start_x = furthest[before] if edits else 0
        start_y = start_x - before if edits else 0
        while x > start_x and y > start_y:
            x, y = x - 1, y - 1
            matches.append((x, y))
        x, y = start_x, start_y
    return matches[::-1]


def _pair(left: list[int], right: list[int], alike: Callable[[int, int], float], found: Alignment) -> None:
    """Old and new records that have nothing equal: as many altered ones as can be, those that are most alike."""
    few = min(len(left), len(right))
    if few == len(left) == len(right) or len(left) * len(right) > _MOST_PAIRS:
        found.altered += zip(left[:few], right[:few], strict=True)
        found.deleted += left[few:]
        found.inserted += right[few:]
        return
    # cost[i, j]: of the rest from i and j on; an altered pair costs less than a deletion and an insertion.
    cost = np.zeros((len(left) + 1, len(right) + 1))
    cost[:-1, -1] = _DELETED * np.arange(len(left), 0, -1)
    cost[-1, :-1] = _DELETED * np.arange(len(right), 0, -1)
    step = np.array([[1.5 - alike(x, y) for y in right] for x in left]).reshape(len(left), len(right))
    for i in range(len(left) - 1, -1, -1):
        for j in range(len(right) - 1, -1, -1):
            cost[i, j] = min(step[i, j] + cost[i + 1, j + 1], _DELETED + cost[i + 1, j], _DELETED + cost[i, j + 1])
    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right) and cost[i, j] == step[i, j] + cost[i + 1, j + 1]:
            found.altered.append((left[i], right[j]))
            i, j = i + 1, j + 1
        elif i < len(left) and cost[i, j] == _DELETED + cost[i + 1, j]:
            found.deleted.append(left[i])
            i += 1
        else:
            found.inserted.append(right[j])
            j += 1


def _same_elsewhere(a: Codes, b: Codes, found: Alignment) -> None:
    """Of what seems deleted here and inserted there, the equal ones are moved."""
    waiting: dict[int, list[int]] = {}
    for place in found.inserted:
        waiting.setdefault(int(b[place]), []).append(place)
    deleted = []
    for place in found.deleted:
        if there := waiting.get(int(a[place])):
            found.moved.append((place, there.pop(0)))
        else:
            deleted.append(place)
    moved = {new for _, new in found.moved}
    found.deleted, found.inserted = deleted, [place for place in found.inserted if place not in moved]
