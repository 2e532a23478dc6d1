"""Images in NumPy's .npz files, as generated sets are published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.sources.parts import absent
from robustml.data.sources.stored import Decoded, PartFiles, StoredRecords
from robustml.data.splits import Split
from robustml.errors import RequestError, nearest
from robustml.untrusted import read_arrays


@dataclass(frozen=True)
class NpzImages:
    """A file of training images, such as those of Rebuffi et al. 2021 (DDPM) and Wang et al. 2023 (EDM).

    It is read whole and not cached once more: an array as it is stored loads as fast. Nothing in it is unpickled.

    Args:
        path: the file, relative to the current folder.
        image: the array (N, H, W, C) or, grey, (N, H, W), uint8 in 0..255.
        label: the array (N,) of integers; where the file lacks it all images are of one class, "unlabelled".
    """

    path: str
    image: str = "image"
    label: str = "label"

    def load(self, split: Split) -> Records:
        """Images (N, C, H, W), uint8 in 0..255; the classes are numbers.

        Raises:
            RequestError: the file cannot be read or lacks the images, an array is of another kind, or the test part is
                asked for.
        """
        if split != "train":
            raise RequestError(f"{self.path} holds training images only: use it as data.extra")
        path = Path(self.path)
        if not path.is_file():
            raise absent(path)
        arrays = read_arrays(path, (self.image, self.label))
        if self.image not in arrays:
            raise RequestError(f"{path}: no array {self.image!r}; {nearest(self.image, read_arrays(path))}")
        images, labels = arrays[self.image], arrays.get(self.label)
        x = self._images(images)
        if labels is None:
            return Records(x, torch.zeros(len(x), dtype=torch.int64), ("unlabelled",))
        if labels.shape != (len(x),) or labels.dtype.kind not in "iu":
            raise RequestError(
                f"{path}: expected {len(x)} integer labels (N,) in {self.label!r}, got {labels.dtype} {labels.shape}"
            )
        if not len(labels):
            return Records(x, torch.zeros(0, dtype=torch.int64), ("unlabelled",))
        y, class_names = encode_labels(labels.tolist(), None, lambda row: f"{path}, row {row}")
        return Records(x, y, class_names)

    @property
    def parts(self) -> tuple[Split, ...]:
        """Training images alone."""
        return ("train",)

    def stored(self, split: Split) -> StoredRecords:
        """One record an image: the bytes of its pixels."""
        return Decoded(self).stored(split)

    def stored_root(self, split: Split) -> Path:
        """The file."""
        return Path(self.path)

    def stored_files(self, split: Split) -> PartFiles:
        """The file."""
        return PartFiles(Path(self.path), (Path(self.path),))

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """None: they are numbers."""
        return None

    def _images(self, images: np.ndarray[Any, Any]) -> torch.Tensor:
        if images.ndim == 3:
            images = images[..., None]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise RequestError(
                f"{self.path}: expected uint8 images (N, H, W, C) with 1 or 3 channels in {self.image!r}, got "
                f"{images.dtype} {images.shape}"
            )
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
