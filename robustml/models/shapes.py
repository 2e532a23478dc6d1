"""What a network must know of its input before it can be built: the image shape, the classes, the flattened size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustml.errors import RequestError

__all__ = ["check_num_classes", "flat_features", "image_shape"]


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape of one image, checked.

    Args:
        shape: (C, H, W), each at least 1; any sequence of integers, such as a list from a config.

    Raises:
        RequestError: it is not three positive integers.
    """
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise RequestError(
            f"this network takes images: expected shape=(channels, height, width), each at least 1; got {sizes}"
        )
    return sizes[0], sizes[1], sizes[2]


def check_num_classes(num_classes: int) -> int:
    """The number of classes, if a classifier can have that many.

    Raises:
        RequestError: it is below 2.
    """
    if num_classes < 2:
        raise RequestError(f"a classifier needs num_classes of at least 2; got {num_classes}")
    return num_classes


def flat_features(features: nn.Module, shape: tuple[int, int, int]) -> int:
    """How many numbers `features` returns for one image, found by running it on one black image.

    Running the layers cannot disagree with them, as a formula beside them could. It draws nothing at random; call it
    on layers without batch norm, whose running statistics it would move.

    Args:
        features: convolutions and pools that take (N, C, H, W).
        shape: (C, H, W) of the images to come.

    Raises:
        RequestError: the images are too small for the kernels and pools.
    """
    try:
        with torch.no_grad():
            image: Tensor = features(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise RequestError(
            f"images of {shape[1]} x {shape[2]} pixels are too small for this network; take a larger data.shape or "
            "another model"
        ) from error
    return math.prod(image.shape[1:])
