"""What anybody's loader hands out, as images and labels: pairs, longer tuples, dicts, numpy, small integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustml.errors import RequestError

IMAGES = ("x", "image", "images", "img", "imgs", "input", "inputs", "pixel_values", "features", "data")
LABELS = ("y", "label", "labels", "target", "targets", "class", "classes")


def images_and_labels(batch: Any) -> tuple[Tensor, Tensor]:
    """The images (N, ...) and labels of a batch, where they are; nothing is copied that is a tensor already.

    Args:
        batch: a tuple or list that begins with images and labels, whatever follows them; or a mapping that names them
            as most loaders do (`IMAGES`, `LABELS`). Either may be numpy arrays.

    Returns:
        Images as they came, and classes (N,) int64 (from any integer type, also (N, 1)) or shares of the classes
        (N, C), for images that were mixed.

    Raises:
        RequestError: none of these.
    """
    if isinstance(batch, Mapping):
        x, y = _named(batch, IMAGES, "images"), _named(batch, LABELS, "labels")
    elif isinstance(batch, Sequence) and len(batch) >= 2 and not isinstance(batch, str):
        x, y = batch[0], batch[1]
    else:
        raise RequestError(
            f"the loader handed out a {type(batch).__name__}; expected pairs (images, labels), tuples that begin so, "
            "or dicts that name them"
        )
    x, y = _tensor(x, "images"), _tensor(y, "labels")
    if not (y.is_floating_point() or y.is_complex()):
        y = y.long()
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.squeeze(1)
    if len(x) != len(y) or not ((y.ndim == 1 and y.dtype == torch.int64) or y.ndim == 2):
        raise RequestError(
            f"the loader handed out images of shape {tuple(x.shape)} with labels of shape {tuple(y.shape)} and type "
            f"{str(y.dtype).removeprefix('torch.')}; expected one class an image, integers (N,)"
        )
    return x, y


def _named(batch: Mapping[Any, Any], names: Sequence[str], what: str) -> Any:
    found = [name for name in names if name in batch]
    if not found:
        raise RequestError(
            f"the loader handed out a dict of {', '.join(map(str, batch))}: none of them is known to hold {what}; "
            f"call them {names[1]}, or hand out pairs (images, labels)"
        )
    return batch[found[0]]


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object and value.ndim:
        return torch.as_tensor(value)
    raise RequestError(f"the loader handed out {what} as a {type(value).__name__}; expected tensors or numpy arrays")
