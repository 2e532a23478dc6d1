"""One encoded picture as people see it: upright, with what shows through it, in 8 bits a channel."""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from robustml.errors import RequestError

Encoded = bytes | str | Path | None
# what Pillow raises on broken files, by format and by where they break
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
# No camera makes more, and a few bytes can claim any number.
_MOST_PIXELS = 2**27
_FORMATS = "PNG JPEG PPM GIF BMP DIB WEBP TIFF AVIF MPO JPEG2000 TGA PCX ICO"
_ORIENTATION = 0x0112
_GREY = ("1", "L", "LA", "La")


class Picture(NamedTuple):
    """A decoded picture, and what there is to say about it.

    Args:
        pixels: (H, W, 1) or, in colour, (H, W, 3), uint8.
        mode: Pillow's name for how the file holds it.
        size: (W, H) in pixels, upright, before it was resized.
        remarks: what was done to it, in the words of the summary.
    """

    pixels: NDArray[np.uint8]
    mode: str
    size: tuple[int, int]
    remarks: tuple[str, ...]


def background_colour(name: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour's name or ``#rrggbb``; anything else is refused."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(str(name))
    except ValueError as error:
        raise RequestError(f"background is the name of a colour, or '#rrggbb'; got {name!r}") from error
    return red, green, blue


def read_picture(
    source: Encoded, size: tuple[int, int] | None, channels: int | None, background: tuple[int, int, int]
) -> Picture:
    """Decode one picture.

    Args:
        source: the bytes of the file, or its path.
        size: (H, W) in pixels to resize to, or None.
        channels: 1 or 3; None keeps what the file has.
        background: what shows through where the picture is transparent.

    Raises:
        ValueError: nothing is there, the file holds grey in 16 bits, or nothing is left of it on its background; and
            what `BROKEN` lists, on files that Pillow cannot read.
    """
    if source is None:
        raise ValueError("it is missing")
    with _opened(source) as opened:
        image: Image.Image = opened
        mode, remarks = image.mode, []
        if mode[0] in "IF":
            raise ValueError(f"expected 8 bits a channel, got the mode {mode}; convert it")
        if opened.format in ("PNG", "TIFF") and ";16" in str([tile[3] for tile in opened.tile]):
            remarks.append("cut from 16 to 8 bits a channel")
        if getattr(opened, "is_animated", False):
            remarks.append("read as the first of several frames")
        if (turn := _orientation(image)) is None:
            remarks.append("left as they lie, for their EXIF data cannot be read")
        elif 1 < turn <= 8:
            image = ImageOps.exif_transpose(image)  # cameras store a rotation beside the pixels
            remarks.append("turned upright as their EXIF data says")
        grey = mode in _GREY
        if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            image, remark = _composed(image, background)
            remarks += [remark] if remark else []
            grey = grey and len(set(background)) == 1
        upright = image.size
        wanted = "L" if channels == 1 or (grey and channels is None) else "RGB"
        # by way of colour a palette of greys keeps its greys
        image = image if image.mode in ("1", "L", "RGB") else image.convert("RGB")
        image = image if image.mode == wanted else image.convert(wanted)
        if size is not None:
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    return Picture(pixels if wanted == "RGB" else pixels[:, :, None], mode, upright, tuple(remarks))


@cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow reads; not PostScript and the like, for which it would start another program."""
    Image.init()
    return tuple(name for name in _FORMATS.split() if name in Image.OPEN)


def _opened(source: bytes | str | Path) -> ImageFile:
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats())
    except UnidentifiedImageError as error:
        raise ValueError("it is no picture, or of a kind that Pillow cannot read") from error
    if (pixels := image.width * image.height) > _MOST_PIXELS:
        raise ValueError(f"it claims {pixels:,} pixels, more than {_MOST_PIXELS:,}; shrink it")
    return image


def _orientation(image: Image.Image) -> int | None:
    """The number that EXIF has for it (1 is upright), or None where the data is damaged."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except (*BROKEN, TypeError, KeyError, AttributeError, ZeroDivisionError):
        return None
    return turn if isinstance(turn, int) else None


def _composed(image: Image.Image, background: tuple[int, int, int]) -> tuple[Image.Image, str | None]:
    """The picture in RGB on its background, and what to say of it."""
    # Pillow knows no direct way from premultiplied grey
    layers = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    alpha = np.asarray(layers.getchannel("A"))
    least, most = int(alpha.min()), int(alpha.max())
    if least == 255:
        return layers.convert("RGB"), None
    ground = Image.new("RGBA", layers.size, (*background, 255))
    flat = Image.alpha_composite(ground, layers).convert("RGB")
    if most == 0:
        return flat, "transparent throughout, hence blank"
    # The shape of an icon is often in its alpha alone: white on a white ground would be lost, as black was on black.
    if least < most and int(np.ptp(np.asarray(flat), axis=(0, 1)).max()) <= 2:
        red, green, blue = background
        raise ValueError(
            f"it is transparent, and nothing is left of it on a background of #{red:02x}{green:02x}{blue:02x}: set "
            "data.source.background, to black, white or grey"
        )
    return flat, "laid on the background where they are transparent"
