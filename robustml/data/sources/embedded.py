"""The embedded sets, copies in scikit-learn that need no download: handwritten digits, and a table of tumours."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from robustml.data.records import Records
from robustml.data.splits import Split, part_of


@dataclass(frozen=True)
class Digits:
    """The 1,797 test digits of Alpaydin and Kaynak (1998), 8 x 8 grey.

    Their grey levels 0..16 become 0..255. The set has no official split: `test_fraction` is held out, stratified, by
    a fixed seed; the default gives 1,437 and 360.
    """

    test_fraction: float = 0.2

    def load(self, split: Split) -> Records:
        """Images (N, 1, 8, 8), uint8 in 0..255."""
        rows = _digits()
        x = torch.from_numpy(np.rint(rows[:, :64] * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
        y = torch.from_numpy(rows[:, 64].astype(np.int64))
        return Records(x, y, tuple("0123456789")).take(part_of(y, split, self.test_fraction))


def _digits() -> npt.NDArray[np.float64]:
    """Rows (1797, 65) of 64 grey levels and the digit, without the import of scikit-learn: a third of torch's."""
    package = find_spec("sklearn")
    path = Path((package.origin if package else None) or "").parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # keeps them elsewhere

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])


@dataclass(frozen=True)
class BreastCancer:
    """Wolberg, Street and Mangasarian's 569 tumours (1995), 30 measurements of cell nuclei each, malignant or benign.

    Each measurement is scaled to [0, 1] by its least and greatest value among the training rows; test values beyond
    these are clipped. The set has no official split: `test_fraction` is held out, stratified, by a fixed seed; the
    default gives 455 and 114.
    """

    test_fraction: float = 0.2
    fitted = True
    """The training rows scale the measurements."""

    def load(self, split: Split) -> Records:
        """Features (N, 30), float32 in [0, 1]; malignant is 0 and benign 1."""
        from sklearn.datasets import load_breast_cancer  # takes a second, and only this set needs it

        table = load_breast_cancer()
        y = torch.from_numpy(table.target.astype(np.int64))
        names = tuple(str(name) for name in table.target_names)
        train = table.data[part_of(y, "train", self.test_fraction).numpy()]
        low, high = train.min(axis=0), train.max(axis=0)
        x = torch.from_numpy(np.clip((table.data - low) / (high - low), 0, 1).astype(np.float32))
        return Records(x, y, names).take(part_of(y, split, self.test_fraction))
