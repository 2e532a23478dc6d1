"""Image sets as folders of class folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustml.data.arrays import Arrays
from robustml.data.decode import decode_images
from robustml.data.labels import encode_labels
from robustml.data.splits import Split, part_of
from robustml.errors import RequestError

__all__ = ["ImageFolder"]

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class ImageFolder:
    """Images in one folder a class, whose names, sorted, are the classes; other files are passed over.

    Args:
        train: the folder of class folders to train on.
        test: the same for testing; None holds out a stratified fifth of `train`.
        size: [height, width] to resize to, in pixels.
    """

    train: str
    test: str | None = None
    size: Sequence[int] | None = None

    def files(self, split: Split) -> tuple[Path, ...]:
        """Every image of the folder that `split` comes from."""
        return tuple(path for path, _ in _images(self._folder(split)))

    def load(self, split: Split) -> Arrays:
        """Images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: on a folder without class folders or images, a class unknown in training, or a bad image.
        """
        found = _images(self._folder(split))
        names = _classes(Path(self.train))
        y, names = encode_labels([name for _, name in found], names, lambda row: str(found[row][0]))
        if self.test is None:
            rows = part_of(y, split)
            found, y = [found[row] for row in rows.tolist()], y[rows]
        x = decode_images([path for path, _ in found], lambda row: str(found[row][0]), self.size)
        return Arrays(x, y, names)

    def _folder(self, split: Split) -> Path:
        return Path(self.train if self.test is None or split == "train" else self.test)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise RequestError(f"no folder {folder} (looked from {Path.cwd()}); paths are relative to the current folder")
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if not names:
        raise RequestError(f"{folder}: expected one folder a class, found none; sort the images into class folders")
    return names


def _images(folder: Path) -> list[tuple[Path, str]]:
    """Each image with its class, sorted, so that the order does not depend on the file system."""
    names = _classes(folder)
    found = [(p, name) for name in names for p in sorted((folder / name).rglob("*")) if p.suffix.lower() in _SUFFIXES]
    if not found:
        raise RequestError(f"{folder}: no images in its class folders; known are {', '.join(sorted(_SUFFIXES))}")
    return found
