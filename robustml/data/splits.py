"""Stratified splits and samples: who is drawn depends on the labels and a seed, and on nothing else."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from robustml.errors import RequestError

Split = Literal["train", "test"]


def rows_in(size: float, total: int) -> int:
    """Turn a count (an int) or a fraction (a float in [0, 1)) of `total` rows into a count, rounded up.

    Raises:
        RequestError: on a negative size, or a fraction of 1 or more.
    """
    if isinstance(size, int) and size >= 0:
        return size
    if isinstance(size, float) and 0 <= size < 1:
        return math.ceil(size * total - 1e-9)  # 0.07 * 100 is 7.000000000000001 and means 7
    raise RequestError(f"expected a count (an int >= 0) or a fraction (a float in [0, 1)) of the rows, got {size!r}")


def stratified_split(y: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out `size` rows with every class in proportion, leaving at least one row of each class behind.

    Each class gets its share rounded down; the rows still missing go to the classes furthest below their share.

    Args:
        y: labels (N,) int64, >= 0.
        size: how many rows to hold out.
        seed: draws which rows of a class are held out.

    Returns:
        The indices (N - size,) that stay and those (size,) held out, int64, ascending: the order of the set is kept.

    Raises:
        RequestError: when either part would be empty, or a class would lose its last row.
    """
    labels = y.cpu().numpy()
    counts = np.bincount(labels)
    room = np.maximum(counts - 1, 0)
    if not 0 < size <= room.sum():
        raise RequestError(
            f"expected to hold out 1 to {room.sum()} of {len(labels)} rows (each class keeps one), got {size}; "
            "change the size of the split"
        )
    share = size * counts / len(labels)
    held = np.minimum(np.floor(share).astype(np.int64), room)
    while missing := size - held.sum():
        behind = np.argsort(held - share, kind="stable")
        behind = behind[held[behind] < room[behind]]
        held[behind[:missing]] += 1
    # RandomState, not Generator: NumPy freezes its stream for good, and a split is part of a set's identity
    random = np.random.RandomState(seed)
    chosen = [random.permutation(np.flatnonzero(labels == label))[: held[label]] for label in range(len(counts))]
    is_held = np.zeros(len(labels), dtype=bool)
    is_held[np.concatenate(chosen)] = True
    return torch.from_numpy(np.flatnonzero(~is_held)), torch.from_numpy(np.flatnonzero(is_held))


def stratified_rows(y: Tensor, size: int, seed: int = 0) -> Tensor:
    """Draw `size` rows that stand for the whole set, however it is sorted.

    Each class gets its share rounded down; the rows still missing go to the largest remainders, of equal ones to
    classes in an order drawn from the seed. In a class a smaller sample is part of a larger one.

    Args:
        y: labels (N,) int64, >= 0.
        size: how many rows; all of them where there are no more.
        seed: draws the rows.

    Returns:
        Indices (min(size, N),) int64, ascending: the order of the set is kept.

    Raises:
        RequestError: a negative size.
    """
    if size < 0:
        raise RequestError(f"expected a sample of 0 rows or more, got {size}")
    labels = y.cpu().numpy()
    total = len(labels)
    if size >= total:
        return torch.arange(total)
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    random = np.random.RandomState(seed)  # as in stratified_split
    order = random.permutation(total)
    drawn, remainder = np.divmod(size * counts, total)  # in integers, so that equal remainders are equal
    drawn[np.lexsort((random.permutation(len(counts)), -remainder))[: size - drawn.sum()]] += 1
    by_class = order[np.argsort(labels[order], kind="stable")]
    place = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return torch.from_numpy(np.sort(by_class[place < np.repeat(drawn, counts)]))


def part_of(y: Tensor, split: Split, fraction: float = 0.2, seed: int = 0) -> Tensor:
    """The rows (K,) of a set without a test part of its own that make up `split`, the test part being `fraction`."""
    rest, held_out = stratified_split(y, rows_in(fraction, len(y)), seed)
    return rest if split == "train" else held_out
