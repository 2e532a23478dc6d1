"""Normalisation as a layer of the model, so that attacks and threats see images in [0, 1] only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustml.errors import RequestError

PerChannel = Sequence[float] | None
"""A value for each channel of the images, or none of them."""


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Both are buffers (C,), never trained: they move and are saved with the weights, which mean nothing without them.

    Args:
        mean: one value a channel, in the unit of the images, hence usually in [0, 1].
        std: as many values, each above 0.

    Raises:
        RequestError: the lengths differ or are 0, or a standard deviation is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        means, stds = [float(value) for value in mean], [float(value) for value in std]
        if not means or len(means) != len(stds):
            raise RequestError(f"mean and std need one value a channel; got {len(means)} in mean, {len(stds)} in std")
        if not all(value > 0 for value in stds):
            raise RequestError(f"std must be above 0 in every channel; got {stds}")
        self.register_buffer("mean", torch.tensor(means))
        self.register_buffer("std", torch.tensor(stds))

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, C, ...), images in [0, 1], to about zero mean and unit deviation; C must be that of `mean`."""
        channels = self.mean.numel()
        if x.ndim < 2 or x.shape[1] != channels:
            raise RequestError(f"mean and std are for {channels} channels (N, {channels}, ...); got {tuple(x.shape)}")
        # a length-1 mean would broadcast over any channels, so the check above must come first
        each_channel = (1, channels) + (1,) * (x.ndim - 2)
        return (x - self.mean.view(each_channel)) / self.std.view(each_channel)

    def extra_repr(self) -> str:
        """The channels, for `print(model)`."""
        return f"channels={self.mean.numel()}"


def normalization(channels: int, mean: PerChannel, std: PerChannel) -> nn.Module:
    """The first layer of a model on inputs (N, `channels`, ...): `Normalize`, or nothing if both values are None.

    Raises:
        RequestError: only one of `mean` and `std` is given, or they are not for `channels` channels.
    """
    if mean is None and std is None:
        return nn.Identity()
    if mean is None or std is None:
        raise RequestError(f"give both mean and std, or neither; got mean={mean}, std={std}")
    if len(mean) != channels:
        raise RequestError(f"mean and std need one value for each of the {channels} channels; got {len(mean)}")
    return Normalize(mean, std)
