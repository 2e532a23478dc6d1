"""Reed-Solomon against ISA-L (pyeclib), and against multiplication in GF(2^8) as it is defined."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustml.integrity.protection.erasure import encode, rebuild

HEADER = 80  # liberasurecode puts so many bytes before each fragment


def chunks_of(need: int, length: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 2**16, (need, length), np.uint16))


@pytest.mark.skipif(sys.platform != "linux", reason="pyeclib has wheels for Linux only")
@pytest.mark.parametrize(("need", "places"), [(4, 6), (1, 3), (2, 3), (10, 14), (20, 32)])
def test_parity_is_that_of_isa_l(need: int, places: int) -> None:
    from pyeclib.ec_iface import ECDriver

    data = chunks_of(need, 64, need)
    other = ECDriver(k=need, m=places - need, ec_type="isa_l_rs_cauchy").encode(b"".join(map(bytes, data)))
    assert [fragment[HEADER:] for fragment in other[:need]] == [bytes(chunk) for chunk in data]
    assert [fragment[HEADER:] for fragment in other[need:]] == [bytes(chunk) for chunk in encode(data, places)]


def times(a: int, b: int) -> int:
    """Polynomials over GF(2), modulo x^8 + x^4 + x^3 + x^2 + 1."""
    total = 0
    while b:
        total, a, b = total ^ (a if b & 1 else 0), a << 1, b >> 1
        a ^= 0x11D if a & 256 else 0
    return total


def test_parity_is_the_cauchy_sum_up_to_255_places() -> None:
    need, places = 100, 255
    data = chunks_of(need, 2, 7)
    inverse = {a: b for a in range(1, 256) for b in range(1, 256) if times(a, b) == 1}
    rows = [chunk.view(np.uint8).tolist() for chunk in data]
    for row, parity in enumerate(encode(data, places), start=need):
        expected = [0] * 4
        for column, values in enumerate(rows):
            expected = [old ^ times(inverse[row ^ column], value) for old, value in zip(expected, values, strict=True)]
        assert parity.view(np.uint8).tolist() == expected


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_need_of_the_chunks_give_the_data(drawn: st.DataObject) -> None:
    places = drawn.draw(st.integers(1, 24))
    need = drawn.draw(st.integers(1, places))
    data = chunks_of(need, drawn.draw(st.integers(1, 40)), places)
    all_chunks = dict(enumerate([*data, *encode(data, places)]))
    kept = drawn.draw(st.permutations(range(places)))[: drawn.draw(st.integers(need, places))]
    assert np.array_equal(rebuild({number: all_chunks[number] for number in kept}, need), data)
