"""Wide residual networks, the reference architecture of robustness leaderboards.

Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016, arXiv 1605.07146), as in yaodongyu/TRADES@6e8e11b and
locuslab/robust_overfitting@c47a25c; layer names are theirs, so that their checkpoints load. With `activation="silu"`
it is the kind of network used by Gowal 2020 and its successors.

Deviations: pooling averages whole feature maps, theirs a fixed 8 x 8 (equal on 32 x 32 images). TRADES' unused
`sub_block1` is left out (their checkpoints load with `strict=False`; a seed draws other weights). Madry 2018's "w32-10"
is another network: its shortcuts pool and pad with zeros, and it standardises each image.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from robustml.errors import RequestError, nearest
from robustml.models.network import at_least_1, check_num_classes, image_shape
from robustml.models.normalize import PerChannel, normalization

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "leaky_relu": partial(F.leaky_relu, negative_slope=0.1),
}


class _Block(nn.Module):
    def __init__(
        self, channels_in: int, channels_out: int, stride: int, dropout: float, act: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        # by channels alone, as in the official code: with width=1 the first block keeps its identity shortcut;
        # the camel case is the name in published checkpoints
        self.convShortcut = None
        if channels_in != channels_out:
            self.convShortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        activated = self.act(self.bn1(x))
        out: Tensor = self.conv2(self.dropout(self.act(self.bn2(self.conv1(activated)))))
        # unlike Wong's PreAct ResNet, the shortcut convolution takes the activated input
        return out + (x if self.convShortcut is None else self.convShortcut(activated))


def _stage(
    blocks: int, channels_in: int, channels_out: int, stride: int, dropout: float, act: Callable[[Tensor], Tensor]
) -> nn.Sequential:
    first = _Block(channels_in, channels_out, stride, dropout, act)
    rest = [_Block(channels_out, channels_out, 1, dropout, act) for _ in range(blocks - 1)]
    # two deep for the names in published checkpoints
    return nn.Sequential(OrderedDict(layer=nn.Sequential(first, *rest)))


class WideResNet(nn.Module):
    """WRN-`depth`-`width`: three stages of (depth - 4) / 6 pre-activation blocks, 16, 32 and 64 x `width` channels.

    Convolutions start from He's normal (fan out), the last bias at zero, the rest as PyTorch has it. Arguments as of
    `Network`; images of any size, the last feature maps are a quarter of it, rounded up.

    Args:
        depth: layers, 6n + 4 with n at least 1: 28, 34, 70, ...
        width: the widening factor, at least 1.
        dropout: probability of dropping a value between the convolutions of a block in training.
        activation: "relu", "silu", "gelu", "softplus" or "leaky_relu" (slope 0.1).
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        depth: int = 28,
        width: int = 10,
        mean: PerChannel = None,
        std: PerChannel = None,
        dropout: float = 0.0,
        activation: Literal["relu", "silu", "gelu", "softplus", "leaky_relu"] = "relu",
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 != 0:
            raise RequestError(f"depth must be 6n + 4 (10, 16, 22, 28, 34, ..., 70); got {depth}")
        at_least_1("width", width)
        if activation not in _ACTIVATIONS:
            raise RequestError(f"activation={activation!r} is unknown; {nearest(str(activation), _ACTIVATIONS)}")
        blocks, act = (depth - 4) // 6, _ACTIVATIONS[activation]
        channels = image_shape(shape)[0]
        self.normalize = normalization(channels, mean, std)
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _stage(blocks, 16, 16 * width, 1, dropout, act)
        self.block2 = _stage(blocks, 16 * width, 32 * width, 2, dropout, act)
        self.block3 = _stage(blocks, 32 * width, 64 * width, 2, dropout, act)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, check_num_classes(num_classes))
        self.act = act
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        out: Tensor = self.conv1(self.normalize(x))
        out = self.block3(self.block2(self.block1(out)))
        out = self.act(self.bn1(out)).mean(dim=(2, 3))
        logits: Tensor = self.fc(out)
        return logits
