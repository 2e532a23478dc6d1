"""What our networks share: checked shapes and classes, the size of flat features, the path from image to logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.models.normalize import PerChannel, normalization


class Network(nn.Module):
    """Normalise, extract features, classify: the subclass makes `features` and `classifier`.

    What the networks of this room take in common:

    - `shape`: (C, H, W) of the images; too small ones are refused.
    - `num_classes`: at least 2.
    - `mean`, `std`: normalisation, one value a channel; None for none.

    Args:
        channels: of the images.
        mean: see above.
        std: see above.

    Raises:
        RequestError: the normalisation does not fit; of a subclass also a size that cannot be.
    """

    features: nn.Module
    classifier: nn.Module

    def __init__(self, channels: int, mean: PerChannel, std: PerChannel) -> None:
        super().__init__()
        self.normalize = normalization(channels, mean, std)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(self.normalize(x)))
        return logits


def two_layers(features: nn.Module, image: tuple[int, int, int], width: int, num_classes: int) -> nn.Sequential:
    """A classifier of flat features: `width` hidden units with ReLU, then the logits."""
    return nn.Sequential(
        nn.Linear(flat_features(features, image), width),
        nn.ReLU(),
        nn.Linear(width, check_num_classes(num_classes)),
    )


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape (C, H, W) of one image, such as a list from a config; refused if not three positive integers."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise RequestError(
            f"this network takes images: expected shape=(channels, height, width), each at least 1; got {sizes}"
        )
    return sizes[0], sizes[1], sizes[2]


def check_num_classes(num_classes: int) -> int:
    """The number of classes, refused where it is below 2."""
    if num_classes < 2:
        raise RequestError(f"a classifier needs num_classes of at least 2; got {num_classes}")
    return num_classes


def at_least_1(name: str, value: int) -> None:
    """Refuse a setting below 1."""
    if value < 1:
        raise RequestError(f"{name} must be at least 1; got {value}")


def flat_features(features: nn.Module, shape: tuple[int, int, int]) -> int:
    """How many numbers `features` returns for one image (C, H, W): of convolutions and pools, layer by layer.

    Running them on the meta device, where a model is outlined before room is made for it, would import the compiler of
    torch, which takes as long as torch itself. Images that are too small for the kernels and pools are refused.
    """
    channels, *sides = shape
    for layer in features.children():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            channels = getattr(layer, "out_channels", channels)
            sides = [_windows(layer, axis, side) for axis, side in enumerate(sides)]
            if min(sides) < 1:
                raise RequestError(
                    f"images of {shape[1]} x {shape[2]} pixels are too small for this network; take a larger "
                    "data.shape or another model"
                )
        elif not isinstance(layer, nn.ReLU | nn.Flatten):
            raise TypeError(f"how a {type(layer).__name__} changes the size of an image is not known here")
    return channels * math.prod(sides)


def _windows(layer: nn.Module, axis: int, side: int) -> int:
    """How often the kernel of an undilated layer fits along an axis; a last one may stick out."""
    sizes: list[Any] = [layer.kernel_size, layer.stride, layer.padding]
    kernel, stride, padding = (int(size[axis] if isinstance(size, tuple) else size) for size in sizes)
    room = side + 2 * padding - kernel
    fits = room // stride + 1
    partial = getattr(layer, "ceil_mode", False) and room % stride and fits * stride < side + padding
    return fits + 1 if partial else fits


def he_normal_(model: nn.Module) -> None:
    """Redraw, in place, every `Conv2d` and `Linear` weight from N(0, sqrt(2/n)) and zero their biases.

    He, Zhang, Ren and Sun, "Delving Deep into Rectifiers" (ICCV 2015, arXiv 1502.01852), as applied by Andriushchenko
    and Flammarion (NeurIPS 2020): n counts a convolution's outputs (kernel area x output channels) but a linear layer's
    inputs.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            conv = isinstance(module, nn.Conv2d)
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if conv else "fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
