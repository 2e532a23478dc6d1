"""Encoded images (PNG, JPEG, ...) to one uint8 tensor."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from robustml.errors import RequestError

__all__ = ["Encoded", "decode_images"]

Encoded = bytes | str | Path | None
# what Pillow raises on broken files, by format and by where they break
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError)


def decode_images(encoded: Sequence[Encoded], where: Callable[[int], str], size: Sequence[int] | None = None) -> Tensor:
    """Decode images of one size; grey sets keep one channel, and one colour image makes the whole set colour.

    One thread: on 32 x 32 images a pool of two is slower than none, since most of the time holds the interpreter lock.

    Args:
        encoded: the bytes of each image file, or its path.
        where: names row `i` in messages, such as "train.parquet, row 7".
        size: (H, W) in pixels to resize to, or None to keep the size that all images share.

    Returns:
        Images (N, C, H, W), uint8 in 0..255, C being 1 or 3.

    Raises:
        RequestError: on an image that cannot be read, one of more than 8 bits a channel, or differing sizes.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise RequestError(f"expected size as [height, width] in pixels, got {list(size)}")
    images: NDArray[np.uint8] = np.empty((0, 0, 0, 1), np.uint8)
    for row, source in enumerate(encoded):
        try:
            image = _decode(source, size)
        except _BROKEN as error:
            raise RequestError(
                f"{where(row)}: cannot read the image ({error}); restore the file or drop the row"
            ) from error
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
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _decode(source: Encoded, size: Sequence[int] | None) -> NDArray[np.uint8]:
    """One image (H, W, 1) or (H, W, 3)."""
    if source is None:
        raise ValueError("it is missing")
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
        image: Image.Image = opened
        if image.mode[0] in "IF":
            raise ValueError(f"expected 8 bits a channel, got the mode {image.mode}")
        if opened.format in ("JPEG", "MPO"):
            image = ImageOps.exif_transpose(image)  # cameras store a rotation beside the pixels
        grey = image.mode in ("1", "L")
        if image.mode not in ("L", "RGB"):
            image = image.convert("L" if grey else "RGB")
        if size is not None:
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    return pixels[:, :, None] if grey else pixels
