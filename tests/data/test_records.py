from __future__ import annotations

import pytest
import torch

from robustml.data import Records
from robustml.errors import RequestError


def test_fingerprint_sees_each_byte_label_name_and_shape(toy):
    arrays = toy()
    assert arrays.fingerprint() == toy().fingerprint()
    assert arrays.fingerprint().startswith("sha256:")
    assert len(arrays.fingerprint()) == 7 + 64
    pixel, label = arrays.x.clone(), arrays.y.clone()
    pixel[-1, -1, -1, -1] ^= 1
    label[-1] = 0
    others = [
        Records(pixel, arrays.y, arrays.class_names),
        Records(arrays.x, label, arrays.class_names),
        Records(arrays.x, arrays.y, ("even", "uneven")),
        Records(arrays.x.view(50, 1, 2, 8), arrays.y, arrays.class_names),
        Records(arrays.x.float() / 255, arrays.y, arrays.class_names),
    ]
    assert len({arrays.fingerprint(), *(other.fingerprint() for other in others)}) == 6


def test_take_and_sample(toy):
    taken = toy().take(torch.tensor([3, 1]))
    assert taken.x[:, 0, 0, 0].tolist() == [3, 1]
    assert taken.y.tolist() == [1, 1]
    assert len(toy().sample(7)) == 7
    whole = toy()
    assert whole.sample(50) is whole.sample(700) is whole
    assert toy().to("cpu").x.shape == (50, 1, 4, 4)


@pytest.mark.parametrize(
    ("x", "y", "names", "says"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), [0, 0], ("a",), "float64"),
        (torch.zeros(2, 3, dtype=torch.uint8), [0, 0], ("a",), r"\(N, C, H, W\)"),
        (torch.zeros(2, 3), [0], ("a",), "2 int64 labels"),
        (torch.zeros(2, 3), [0, 1], ("a",), r"0\.\.0, got 0\.\.1"),
        (torch.zeros(2, 3), [0, -1], ("a",), r"got -1\.\.0"),
        (torch.zeros(2, 3), [0, 0], ("a", "a"), "distinct"),
        (torch.full((2, 3), 1.5), [0, 0], ("a",), r"\[0, 1\]"),
        (torch.full((2, 3), float("nan")), [0, 0], ("a",), "NaN"),
    ],
)
def test_refuses_what_it_does_not_hold(x, y, names, says):
    with pytest.raises(RequestError, match=says):
        Records(x, torch.tensor(y), names)
