"""Image sets as folders of class folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from robustml.data.decode import decode_images
from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.sources.class_folders import ClassFolders, class_folders
from robustml.data.splits import Split, part_of

_SUFFIXES = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pcx",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)


@dataclass(frozen=True)
class ImageFolder:
    """Images in one folder a class, whose names, sorted, are the classes; other files are passed over, and named.

    Args:
        train: the folder of class folders to train on.
        test: the same for testing; None holds out a stratified fifth of `train`.
        size: [height, width] to resize to, in pixels.
        channels: 1 makes all images grey, 3 all colour; None is 3 where any of them is in colour.
        background: the colour behind transparent images.
    """

    train: str
    test: str | None = None
    size: Sequence[int] | None = None
    channels: int | None = None
    background: str = "white"

    def files(self, split: Split) -> tuple[Path, ...]:
        """The class folders of the training part, which name the classes, and all that `split` comes from."""
        return (*self._found("train").folders, *self._found(split).known_by())

    def load(self, split: Split) -> Records:
        """Images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: on a folder without class folders or images, a class unknown in training, or a bad image.
        """
        found = self._found(split)
        files = found.files
        y, names = encode_labels(
            [name for _, name in files], self._found("train").classes, lambda row: str(files[row][0])
        )
        rows = torch.arange(len(y))
        if self.test is None:
            rows = part_of(y, split)
            files, y = [files[row] for row in rows.tolist()], y[rows]
        x, understood = decode_images(
            [path for path, _ in files],
            lambda row: str(files[row][0]),
            self.size,
            channels=self.channels,
            background=self.background,
        )
        return Records(x, y, names, found.understood + understood, rows)

    def _found(self, split: Split) -> ClassFolders:
        root = self.train if self.test is None or split == "train" else self.test
        return class_folders(Path(root), _SUFFIXES, "images")
