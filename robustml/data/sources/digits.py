"""The embedded set: scikit-learn's handwritten digits, 8 x 8 grey, no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from robustml.data.records import Records
from robustml.data.splits import Split, part_of


@dataclass(frozen=True)
class Digits:
    """The 1,797 test digits of Alpaydin and Kaynak (1998), as scikit-learn bundles them.

    Their grey levels 0..16 become 0..255. The set has no official split: `test_fraction` is held out, stratified, by
    a fixed seed; the default gives 1,437 and 360.
    """

    test_fraction: float = 0.2

    def load(self, split: Split) -> Records:
        """Images (N, 1, 8, 8), uint8 in 0..255."""
        from sklearn.datasets import load_digits  # takes a second, and only this set needs it

        digits = load_digits()
        x = torch.from_numpy(np.rint(digits.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
        y = torch.from_numpy(digits.target.astype(np.int64))
        names = tuple(str(name) for name in digits.target_names)
        return Records(x, y, names).take(part_of(y, split, self.test_fraction))
