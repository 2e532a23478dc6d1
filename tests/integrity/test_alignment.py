"""Alignment against edits whose truth is known, and against what must hold of any two sequences."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustml.integrity.alignment import Alignment, align

KINDS = ("altered", "deleted", "inserted", "swapped", "neighbours", "moved")


class Truth(NamedTuple):
    old: list[bytes]
    new: list[bytes]
    altered: set[int]
    deleted: set[int]
    inserted: set[int]
    swapped: set[tuple[int, int]]
    moved: set[int]


def edited(count: int, kinds: list[str], seed: int) -> Truth:
    """Distinct records; each edit in a stretch of its own, so that there is one simplest account of them all."""
    chance = random.Random(seed)
    old = [f"record {number}".encode() for number in range(count)]
    truth = Truth(old, [], set(), set(), set(), set(), set())
    stretches, place = [], 0
    width = count // max(len(kinds), 1)
    for number, kind in enumerate(kinds):
        start = number * width
        part = list(range(start, start + width))
        at = chance.randrange(2, width - 6)
        if kind == "altered":
            truth.altered.add(part[at])
            part[at] = -1 - number
        elif kind == "deleted":
            truth.deleted.add(part.pop(at))
        elif kind == "inserted":
            truth.inserted.add(-1 - number)
            part.insert(at, -1 - number)
        elif kind == "moved":
            truth.moved.add(part[at])
            part.insert(at + 4, part.pop(at))
        else:
            other = at + (1 if kind == "neighbours" else 4)
            truth.swapped.add((part[at], part[other]))
            part[at], part[other] = part[other], part[at]
        stretches += part
        place = start + width
    stretches += range(place, count)
    new = [old[number] if number >= 0 else f"new {number}".encode() for number in stretches]
    inserted = {stretches.index(number) for number in truth.inserted}
    return truth._replace(new=new, inserted=inserted)


def aligned(old: list[bytes], new: list[bytes]) -> Alignment:
    return align(old, new, lambda _i, _j: 0.0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(KINDS), max_size=8), st.integers(0, 2**32))
def test_edits_are_found_as_they_were_made(kinds: list[str], seed: int) -> None:
    truth = edited(12 * max(len(kinds), 1) + 5, kinds, seed)
    found = aligned(truth.old, truth.new)
    assert {old for old, _ in found.altered} == truth.altered
    assert set(found.deleted) == truth.deleted
    assert set(found.inserted) == truth.inserted
    assert {(first[0], second[0]) for first, second in found.swapped} == truth.swapped
    assert {old for old, _ in found.moved} == truth.moved


def check(old: list[bytes], new: list[bytes]) -> Alignment:
    """Every record is told of once; what is not stayed as it was, in its order; what moved is what it was."""
    found = aligned(old, new)
    elsewhere = [*found.moved, *(pair for both in found.swapped for pair in both)]
    gone = [*found.deleted, *(i for i, _ in [*found.altered, *elsewhere])]
    come = [*found.inserted, *(j for _, j in [*found.altered, *elsewhere])]
    left, arrived = set(gone), set(come)
    assert (len(left), len(arrived)) == (len(gone), len(come))
    stayed = [one for place, one in enumerate(old) if place not in left]
    assert stayed == [one for place, one in enumerate(new) if place not in arrived]
    assert all(old[i] == new[j] for i, j in elsewhere)
    assert all(old[i] != new[j] for i, j in found.altered)
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), max_size=14), st.data())
def test_any_two_sequences_with_copies_are_accounted_for(old: list[bytes], data: st.DataObject) -> None:
    new = data.draw(st.one_of(st.permutations(old), st.lists(st.sampled_from([b"a", b"b", b"c", b"x"]), max_size=14)))
    found = check(old, list(new))
    assert (old == new) == (found == Alignment())
    # every copy that stands in both is found in both
    common = sum(min(old.count(one), new.count(one)) for one in set(old))
    lost = len(found.deleted) + len(found.altered)
    assert lost == len(old) - common or found.altered


@pytest.mark.parametrize("seed", range(3))
def test_of_many_equal_records_one_deleted_and_one_inserted_are_two_changes(seed: int) -> None:
    chance = random.Random(seed)
    old = [b"%d" % chance.randrange(20) for _ in range(3000)]
    new = list(old)
    new[2500] = b"altered"
    new.insert(2000, b"19")
    del new[100]
    found = check(old, new)
    assert (len(found.deleted), len(found.inserted), len(found.altered), found.moved) == (1, 1, 1, [])


def test_a_shuffled_set_and_another_set_take_no_longer_than_reading_them() -> None:
    old = [b"%d" % number for number in range(20_000)]
    new = random.Random(0).sample(old, len(old))
    check(old, new)
    other = [b"x%d" % number for number in range(15_000)]
    found = check(old, other)
    assert (len(found.altered), len(found.deleted)) == (15_000, 5_000)


def test_in_a_gap_the_most_alike_are_one_record() -> None:
    old, new = [b"0", b"1", b"2", b"9"], [b"0", b"2*", b"9"]
    found = align(old, new, lambda i, _j: 0.5 if i == 2 else 0.0)
    assert (found.altered, found.deleted) == ([(2, 1)], [1])
