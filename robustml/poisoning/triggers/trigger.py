"""What a trigger is, and pictures of somebody's that triggers are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustml.errors import RequestError
from robustml.files import opened


@runtime_checkable
class Trigger(Protocol):
    """Something that marks inputs (N, ...) in [0, 1]; returns a new tensor of the same shape."""

    def __call__(self, x: Tensor) -> Tensor:
        """The inputs with the mark on them."""
        ...


def picture_in(file: str, height: int, width: int, mode: str) -> Tensor:
    """A picture of a file, scaled to (C, height, width) in [0, 1]; `mode` is Pillow's, such as ``RGB``.

    Raises:
        RequestError: it cannot be read as a picture.
    """
    try:
        with opened(Path(str(file))) as content, Image.open(content) as image:
            scaled = np.array(image.convert(mode).resize((width, height)))
    except (OSError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise RequestError(f"trigger.file={file!r} cannot be read as a picture: {error}") from error
    return torch.from_numpy(scaled).permute(2, 0, 1).float().div_(255)
