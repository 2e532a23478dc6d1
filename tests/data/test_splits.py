from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustml.data import stratified_rows, stratified_split
from robustml.data.splits import part_of, rows_in
from robustml.errors import RequestError


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=80), st.integers(0, 5), st.data())
def test_split_is_exact_disjoint_ordered_and_stratified(labels, seed, data):
    y = torch.tensor(labels)
    counts = torch.bincount(y)
    most = int((counts - 1).clamp(min=0).sum())
    if most == 0:
        return
    size = data.draw(st.integers(1, most))
    rest, held = stratified_split(y, size, seed)
    assert len(held) == size
    assert torch.equal(torch.cat([rest, held]).sort().values, torch.arange(len(y)))
    assert torch.equal(rest, rest.sort().values)
    assert torch.equal(held, held.sort().values)
    assert torch.equal(torch.bincount(y[rest]) > 0, counts > 0), "no class leaves the training part"
    share = size * counts / len(y)
    taken = torch.bincount(y[held], minlength=len(counts))
    assert (taken >= torch.minimum(share.floor(), counts - 1)).all()
    if (share.ceil() <= counts - 1)[counts > 0].all():
        assert ((taken - share).abs() < 1).all()
    again = stratified_split(y, size, seed)
    assert torch.equal(held, again[1])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 6), max_size=80), st.integers(0, 90), st.integers(0, 5))
def test_a_sample_is_exact_ordered_and_within_one_row_of_each_share(labels, size, seed):
    y = torch.tensor(labels, dtype=torch.int64)
    rows = stratified_rows(y, size, seed)
    assert len(rows) == min(size, len(y))
    assert rows.tolist() == sorted(set(rows.tolist()))
    taken, counts = (torch.bincount(part, minlength=7) for part in (y[rows], y))
    if 0 < size <= len(y):
        assert ((taken - size * counts / len(y)).abs() < 1).all()
    assert torch.equal(rows, stratified_rows(y, size, seed))


def test_samples_are_frozen_nested_and_drawn_from_everywhere():
    """A change here changes which images every limited evaluation looks at."""
    y = torch.arange(20) // 10
    assert stratified_rows(y, 4).tolist() == [1, 8, 18, 19]
    assert set(stratified_rows(y, 4).tolist()) < set(stratified_rows(y, 10).tolist())
    assert {row for seed in range(20) for row in stratified_rows(y, 4, seed).tolist()} == set(range(20))
    with pytest.raises(RequestError, match="0 rows or more, got -1"):
        stratified_rows(y, -1)


def test_seed_changes_the_split():
    y = torch.arange(100) % 4
    assert not torch.equal(stratified_split(y, 20, 0)[1], stratified_split(y, 20, 1)[1])


def test_split_is_frozen():
    """The drawn rows are part of a set's identity: a change here changes every published figure."""
    assert stratified_split(torch.arange(20) % 2, 4, 0)[1].tolist() == [4, 7, 11, 16]


@pytest.mark.parametrize("size", [0, -1, 9, 10])
def test_no_part_may_be_empty(size):
    with pytest.raises(RequestError, match="1 to 8 of 10 rows"):
        stratified_split(torch.arange(10) % 2, size, 0)


def test_a_single_sample_stays_in_train():
    y = torch.tensor([0] * 9 + [1])
    rest, _ = stratified_split(y, 8, 0)
    assert 9 in rest.tolist()


def test_part_of_makes_both_parts():
    y = torch.arange(50) % 5
    parts = torch.cat([part_of(y, "train"), part_of(y, "test")])
    assert sorted(parts.tolist()) == list(range(50))
    assert len(part_of(y, "test")) == 10


def test_rows_in():
    assert rows_in(7, 10) == 7
    assert rows_in(0.07, 100) == 7
    assert rows_in(0.2, 1797) == 360
    assert rows_in(0, 5) == 0
    for bad in (-1, 1.0, -0.1, "5"):
        with pytest.raises(RequestError, match="count"):
            rows_in(bad, 10)
