"""Encoded images (PNG, JPEG, ...) to one uint8 tensor."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustml.data.picture import BROKEN, Encoded, Picture, background_colour, read_picture
from robustml.data.understood import Understood
from robustml.errors import RequestError


def decode_images(
    encoded: Sequence[Encoded],
    where: Callable[[int], str],
    size: Sequence[int] | None = None,
    *,
    channels: int | None = None,
    background: str = "white",
) -> tuple[Tensor, Understood]:
    """Decode images of one size; grey sets keep one channel, and one colour image makes the whole set colour.

    One thread: on 32 x 32 images a pool of two is slower than none, since most of the time holds the interpreter lock.

    Args:
        encoded: the bytes of each image file, or its path.
        where: names row `i` in messages, such as "train.parquet, row 7".
        size: (H, W) in pixels to resize to, or None to keep the size that all images share.
        channels: 1 makes all images grey, 3 all colour; None is 3 where any of them is.
        background: the colour that shows where an image is transparent, by name or as ``#rrggbb``.

    Returns:
        Images (N, C, H, W), uint8 in 0..255, C being 1 or 3; and what was found and done.

    Raises:
        RequestError: on an image that cannot be read, grey ones of more than 8 bits, differing sizes, or a transparent
            one that its background swallows; on an unknown colour or number of channels.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise RequestError(f"expected size as [height, width] in pixels, got {list(size)}")
    if channels not in (None, 1, 3):
        raise RequestError(f"expected channels as 1 (grey), 3 (colour) or null (what the files have), got {channels!r}")
    colour, shape = background_colour(background), None if size is None else (size[0], size[1])
    images: NDArray[np.uint8] = np.empty((0, 0, 0, 1), np.uint8)
    seen = _Seen(len(encoded), where)
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        for row, source in enumerate(encoded):
            before = len(complaints)
            try:
                picture = read_picture(source, shape, channels, colour)
            except BROKEN as error:
                raise RequestError(
                    f"{where(row)}: cannot read the image ({error}); restore the file or drop the row"
                ) from error
            image = picture.pixels
            if row == 0:
                images = np.empty((len(encoded), *image.shape), np.uint8)
            if image.shape[:2] != images.shape[1:3]:
                first, other = ("{} x {}".format(*shape) for shape in (images.shape[1:3], image.shape[:2]))
                raise RequestError(
                    f"expected images of one size, got {first} ({where(0)}) and {other} ({where(row)}); "
                    "set size: [H, W]"
                )
            if image.shape[2] > images.shape[3]:
                images = np.repeat(images, 3, axis=3)
            images[row] = image  # a grey image broadcasts into a colour set
            seen.add(row, picture, [str(complaint.message) for complaint in complaints[before:]])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), seen.understood(channels, size)


class _Seen:
    """What there is to say of the pictures of a set, gathered one by one."""

    def __init__(self, count: int, where: Callable[[int], str]) -> None:
        self.count, self.where = count, where
        self.modes: Counter[str] = Counter()
        self.sizes: set[tuple[int, int]] = set()
        self.rows: dict[str, list[int]] = {}
        self.grey = self.colour = 0
        self.first_in_colour = -1

    def add(self, row: int, picture: Picture, complaints: Sequence[str]) -> None:
        self.modes[picture.mode] += 1
        self.sizes.add(picture.size)
        for remark in picture.remarks:
            self.rows.setdefault(remark, []).append(row)
        if complaints:
            self.rows.setdefault(f"read though Pillow warns of some: {complaints[0]!r}", []).append(row)
        if picture.pixels.shape[2] == 1:
            self.grey += 1
        else:
            self.first_in_colour = self.first_in_colour if self.colour else row
            self.colour += 1

    def understood(self, channels: int | None, size: Sequence[int] | None) -> Understood:
        notes = [
            f"{len(rows)} of {self.count} pictures were {what} ({self.where(rows[0])})"
            for what, rows in self.rows.items()
        ]
        if channels is None and self.grey and self.colour:
            notes.append(
                f"{self.colour} of {self.count} pictures are in colour ({self.where(self.first_in_colour)}), so that "
                "the grey ones got three equal channels; data.source.channels=1 makes all of them grey"
            )
        found = sorted((height, width) for width, height in self.sizes)
        text = ", ".join(f"{mode} {count}" for mode, count in sorted(self.modes.items()))
        if found:
            text += ", {} x {}".format(*found[0])
        if len(found) > 1:
            text += " to {} x {}".format(*found[-1])
        if size is not None:
            text += f", resized to {size[0]} x {size[1]}"
        return Understood({"pictures": text}, notes=tuple(notes))
