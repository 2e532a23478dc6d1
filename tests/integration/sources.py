"""Data sources with one fault each, as a user might write them."""

from __future__ import annotations

from dataclasses import dataclass

from robustml.data import Digits, Records
from robustml.data.splits import Split


@dataclass(frozen=True)
class Bytes:
    """Images as floats in 0..255."""

    def load(self, split: Split) -> Records:
        arrays = Digits().load(split)
        return Records(arrays.x.float(), arrays.y, arrays.class_names)


@dataclass(frozen=True)
class LabelTen:
    """Ten classes, one label of an eleventh."""

    def load(self, split: Split) -> Records:
        arrays = Digits().load(split)
        y = arrays.y.clone()
        y[5] = 10
        return Records(arrays.x, y, arrays.class_names)
