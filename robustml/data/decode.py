"""Encoded images (PNG, JPEG, ...) to one uint8 tensor."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustml.data.picture import BROKEN, Encoded, background_colour, read_picture
from robustml.data.understood import Understood
from robustml.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How the pictures of a set are read; grey sets keep one channel.

    Args:
        size: [height, width] to resize to, in pixels; None keeps the size that all pictures share.
        channels: 1 makes all pictures grey, 3 all colour; None is 3 where any of them is in colour.
        background: the colour that shows where a picture is transparent, by name or as ``#rrggbb``.
    """

    size: Sequence[int] | None = None
    channels: int | None = None
    background: str = "white"

    def decode(
        self, encoded: Sequence[Encoded], where: Callable[[int], str], rows: Tensor
    ) -> tuple[Tensor, Understood]:
        """Decode some of the pictures of a file.

        One thread: on 32 x 32 images a pool of two is slower than none, since most of the time holds the interpreter
        lock.

        Args:
            encoded: the bytes of each image file, or its path.
            where: names row `i` of these in messages, such as "train.parquet, row 7".
            rows: (K,), those to decode.

        Returns:
            Images (K, C, H, W), uint8 in 0..255, C being 1 or 3; and what was found and done.

        Raises:
            RequestError: on an image that cannot be read, grey ones of more than 8 bits, differing sizes, or a
                transparent one that its background swallows; on an unknown colour or number of channels.
        """
        size, channels = self.size, self.channels
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise RequestError(f"expected size as [height, width] in pixels, got {list(size)}")
        if channels not in (None, 1, 3):
            raise RequestError(
                f"expected channels as 1 (grey), 3 (colour) or null (what the files have), got {channels!r}"
            )
        colour, shape = background_colour(self.background), None if size is None else (size[0], size[1])
        images: NDArray[np.uint8] = np.empty((0, 0, 0, 1), np.uint8)
        modes, sizes = Counter[str](), set[tuple[int, int]]()
        said, in_colour = dict[str, list[int]](), list[int]()  # rows, those of each remark by what it says
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            for place, row in enumerate(rows.tolist()):
                complaints.clear()
                try:
                    picture = read_picture(encoded[row], shape, channels, colour)
                except BROKEN as error:
                    raise RequestError(
                        f"{where(row)}: cannot read the image ({error}); restore the file or drop the row"
                    ) from error
                image = picture.pixels
                if place == 0:
                    images = np.empty((len(rows), *image.shape), np.uint8)
                if image.shape[:2] != images.shape[1:3]:
                    first, other = ("{} x {}".format(*shape) for shape in (images.shape[1:3], image.shape[:2]))
                    raise RequestError(
                        f"expected images of one size, got {first} ({where(int(rows[0]))}) and {other} "
                        f"({where(row)}); set size: [H, W]"
                    )
                if image.shape[2] > images.shape[3]:
                    images = np.repeat(images, 3, axis=3)
                images[place] = image  # a grey image broadcasts into a colour set
                modes[picture.mode] += 1
                sizes.add(picture.size[::-1])
                in_colour += [row] if image.shape[2] == 3 else []
                warned = [f"read though Pillow warns of some: {str(each.message)!r}" for each in complaints[:1]]
                for remark in (*picture.remarks, *warned):
                    said.setdefault(remark, []).append(row)
        count = len(rows)
        notes = [f"{len(these)} of {count} pictures were {what} ({where(these[0])})" for what, these in said.items()]
        if channels is None and 0 < len(in_colour) < count:
            notes.append(
                f"{len(in_colour)} of {count} pictures are in colour ({where(in_colour[0])}), so that the grey ones "
                "got three equal channels; data.source.channels=1 makes all of them grey"
            )
        text = ", ".join(f"{mode} {count}" for mode, count in sorted(modes.items()))
        if sizes:
            text += ", " + " to ".join("{} x {}".format(*each) for each in sorted({min(sizes), max(sizes)}))
        text += "" if size is None else f", resized to {size[0]} x {size[1]}"
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return x, Understood({"pictures": text}, notes=tuple(notes))
