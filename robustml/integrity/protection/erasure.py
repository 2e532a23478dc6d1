"""Reed-Solomon codes (Reed and Solomon 1960): data in `need` chunks, and parity, so that any `need` of all suffice.

Over GF(2^8) with the polynomial 0x11D; systematic, with a Cauchy matrix for the parity (Blömer et al. 1995), of which
every square part can be inverted. The layout is ISA-L's `gf_gen_cauchy1_matrix`: row i, column j is 1 / (i ^ j).

Chunks are arrays of uint16: two bytes are multiplied at once, by one look into a table of 65,536 products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Chunk = NDArray[np.uint16]
MOST_PLACES = 255
_POLYNOMIAL = 0x11D


def encode(data: Sequence[Chunk], places: int) -> list[Chunk]:
    """The parity of one stripe.

    Args:
        data: the `need` chunks, arrays (L,) of one length.
        places: how many chunks there are to be in all, at most 255.

    Returns:
        The `places - need` chunks of parity (L,).
    """
    need = len(data)
    return [_combined(_cauchy(row, need), data) for row in range(need, places)]


def rebuild(chunks: Mapping[int, Chunk], need: int) -> list[Chunk]:
    """The data of one stripe.

    Args:
        chunks: at least `need` chunks by their number; those below `need` are data, the others parity.
        need: how many suffice.

    Returns:
        The `need` chunks of data, in order.
    """
    chosen = tuple(sorted(chunks)[:need])
    known = [chunks[row] for row in chosen]
    return [chunks[row] if row in chunks else _combined(_inverse(chosen)[row], known) for row in range(need)]


def _combined(factors: Sequence[int], chunks: Sequence[Chunk]) -> Chunk:
    """The sum over chunks of factor times chunk."""
    total, product = np.zeros_like(chunks[0]), np.empty_like(chunks[0])
    for factor, chunk in zip(factors, chunks, strict=True):
        # Every value is in the table; "clip" says so to numpy, which would copy otherwise.
        total ^= np.take(_products_of_pairs(factor), chunk, out=product, mode="clip")
    return total


def _cauchy(row: int, need: int) -> list[int]:
    return [_inverted(row ^ column) for column in range(need)]


@lru_cache(64)
def _inverse(chosen: tuple[int, ...]) -> list[list[int]]:
    """What the chunks `chosen` have to be multiplied by to give the data: Gauss-Jordan on their rows of the matrix."""
    size = len(chosen)
    unit = [[int(row == column) for column in range(size)] for row in range(size)]
    rows = [(unit[row] if row < size else _cauchy(row, size)) + unit[place] for place, row in enumerate(chosen)]
    for column in range(size):
        pivot = next(row for row in range(column, size) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = _inverted(rows[column][column])
        rows[column] = [_product(scale, value) for value in rows[column]]
        for place, row in enumerate(rows):
            if place != column and (factor := row[column]):
                rows[place] = [mine ^ _product(factor, other) for mine, other in zip(row, rows[column], strict=True)]
    return [row[size:] for row in rows]


@cache
def _logarithms() -> tuple[list[int], dict[int, int]]:
    """The powers of 2, and of which each value is."""
    powers = [1]
    for _ in range(254):
        doubled = powers[-1] << 1
        powers.append(doubled ^ _POLYNOMIAL if doubled > 255 else doubled)
    return powers, {value: exponent for exponent, value in enumerate(powers)}


def _product(first: int, second: int) -> int:
    powers, logarithm = _logarithms()
    return powers[(logarithm[first] + logarithm[second]) % 255] if first and second else 0


def _inverted(value: int) -> int:
    powers, logarithm = _logarithms()
    return powers[-logarithm[value] % 255]


@lru_cache(1024)
def _products_of_pairs(factor: int) -> Chunk:
    single = np.array([_product(factor, value) for value in range(256)], np.uint16)
    return np.asarray(single[:, None] << 8 | single, np.uint16).ravel()
