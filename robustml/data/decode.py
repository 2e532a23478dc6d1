"""Encoded images (PNG, JPEG, ...) to one uint8 tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustml.data.picture import BROKEN, Encoded, background_colour, read_picture
from robustml.data.understood import Understood
from robustml.errors import RequestError

__all__ = ["decode_images"]


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
    modes: Counter[str] = Counter()
    sizes: set[tuple[int, int]] = set()
    remarks: dict[str, list[int]] = {}
    kinds: dict[int, list[int]] = {1: [], 3: []}
    for row, source in enumerate(encoded):
        try:
            picture = read_picture(source, shape, channels, colour)
        except BROKEN as error:
            raise RequestError(
                f"{where(row)}: cannot read the image ({error}); restore the file or drop the row"
            ) from error
        image = picture.pixels
        modes[picture.mode] += 1
        sizes.add(picture.size)
        kinds[image.shape[2]].append(row)
        for remark in picture.remarks:
            remarks.setdefault(remark, []).append(row)
        if row == 0:
            images = np.empty((len(encoded), *image.shape), np.uint8)
        if image.shape[:2] != images.shape[1:3]:
            first, other = ("{} x {}".format(*shape) for shape in (images.shape[1:3], image.shape[:2]))
            raise RequestError(
                f"expected images of one size, got {first} ({where(0)}) and {other} ({where(row)}); set size: [H, W]"
            )
        if image.shape[2] > images.shape[3]:
            images = np.repeat(images, 3, axis=3)
        images[row] = image  # a grey image broadcasts into a colour set
    notes = [f"{len(rows)} of {len(encoded)} pictures were {what} ({where(rows[0])})" for what, rows in remarks.items()]
    if channels is None and kinds[1] and kinds[3]:
        notes.append(
            f"{len(kinds[3])} of {len(encoded)} pictures are in colour ({where(kinds[3][0])}), so that the grey ones "
            "got three equal channels; data.source.channels=1 makes all of them grey"
        )
    understood = Understood({"pictures": _described(modes, sizes, size)}, notes=tuple(notes))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), understood


def _described(modes: Counter[str], sizes: Iterable[tuple[int, int]], size: Sequence[int] | None) -> str:
    """Modes and sizes in words: ``L 9, RGB 1, 28 x 28``."""
    found = sorted({(height, width) for width, height in sizes})
    text = ", ".join(f"{mode} {count}" for mode, count in sorted(modes.items()))
    if len(found) == 1:
        text += ", {} x {}".format(*found[0])
    elif found:
        text += ", {} x {} to {} x {}".format(*found[0], *found[-1])
    return text if size is None else f"{text}, resized to {size[0]} x {size[1]}"
