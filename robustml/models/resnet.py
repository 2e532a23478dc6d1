"""ResNet-18 and PreAct ResNet-18 for small images: a 3x3 stem of stride 1 and no first pool.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016, arXiv 1512.03385) and "Identity
Mappings in Deep Residual Networks" (ECCV 2016, arXiv 1603.05027), in the CIFAR form that adversarial training uses.

Three public PreAct ResNet-18s share a name and differ; the arguments of `PreActResNet18` tell them apart (read in their
repositories; `shortcut` says what the 1x1 shortcut convolution is applied to):

=================================================  ============  =============  =========
paper and repository                               `final_norm`  `shortcut`     `init`
=================================================  ============  =============  =========
Wong 2020, locuslab/fast_adversarial               True          "input"        "torch"
Rice 2020, locuslab/robust_overfitting             True          "activated"    "torch"
Andriushchenko 2020, understanding-fast-adv-train  False         "input"        "he"
=================================================  ============  =============  =========

Deviations: pooling averages whole feature maps, the papers' a fixed 4 x 4 (equal on 32 x 32 images). Layer names are
those of the repositories above, so that their checkpoints load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from robustml.errors import RequestError, nearest
from robustml.models.network import check_num_classes, he_normal_, image_shape
from robustml.models.normalize import PerChannel, normalization

Block = Callable[[int, int, int], nn.Module]


def _conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


def _stage(block: Block, channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(block(channels_in, channels_out, stride), block(channels_out, channels_out, 1))


class _BasicBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels_in, channels_out, stride)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = _conv3x3(channels_out, channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class _PreActBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut_activated: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = _conv3x3(channels_in, channels_out, stride)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = _conv3x3(channels_out, channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False))
        # an identity shortcut carries the raw input in every variant
        self.shortcut_activated = shortcut_activated and len(self.shortcut) > 0

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        shortcut: Tensor = self.shortcut(activated if self.shortcut_activated else x)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + shortcut


class ResNet18(nn.Module):
    """ResNet-18 with the 32 x 32 stem. PyTorch's default init.

    Arguments as of `Network`; images of any size, the last feature maps are an eighth of it, rounded up.
    """

    def __init__(
        self, shape: Sequence[int] = (3, 32, 32), num_classes: int = 10, mean: PerChannel = None, std: PerChannel = None
    ) -> None:
        super().__init__()
        channels = image_shape(shape)[0]
        self.normalize = normalization(channels, mean, std)
        self.conv1 = _conv3x3(channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(_BasicBlock, 64, 64, 1)
        self.layer2 = _stage(_BasicBlock, 64, 128, 2)
        self.layer3 = _stage(_BasicBlock, 128, 256, 2)
        self.layer4 = _stage(_BasicBlock, 256, 512, 2)
        self.linear = nn.Linear(512, check_num_classes(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(self.normalize(x))))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits


class PreActResNet18(nn.Module):
    """Pre-activation ResNet-18 with the 32 x 32 stem. The defaults are Wong 2020's network.

    Arguments as of `Network`; images of any size, the last feature maps are an eighth of it, rounded up.

    Args:
        final_norm: batch norm and ReLU before the pooling.
        shortcut: what a shortcut convolution is applied to: the block's "input", or that input after the block's first
            batch norm and ReLU ("activated").
        init: "torch" for PyTorch's defaults, "he" for N(0, sqrt(2/n)) weights and zero biases.
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        mean: PerChannel = None,
        std: PerChannel = None,
        final_norm: bool = True,
        shortcut: Literal["input", "activated"] = "input",
        init: Literal["torch", "he"] = "torch",
    ) -> None:
        super().__init__()
        if shortcut not in ("input", "activated"):
            raise RequestError(f"shortcut={shortcut!r} is unknown; {nearest(str(shortcut), ('input', 'activated'))}")
        if init not in ("torch", "he"):
            raise RequestError(f"init={init!r} is unknown; {nearest(str(init), ('torch', 'he'))}")

        def block(channels_in: int, channels_out: int, stride: int) -> nn.Module:
            return _PreActBlock(channels_in, channels_out, stride, shortcut_activated=shortcut == "activated")

        channels = image_shape(shape)[0]
        self.normalize = normalization(channels, mean, std)
        self.conv1 = _conv3x3(channels, 64)
        self.layer1 = _stage(block, 64, 64, 1)
        self.layer2 = _stage(block, 64, 128, 2)
        self.layer3 = _stage(block, 128, 256, 2)
        self.layer4 = _stage(block, 256, 512, 2)
        self.bn = nn.BatchNorm2d(512) if final_norm else None
        self.linear = nn.Linear(512, check_num_classes(num_classes))
        if init == "he":
            he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        out: Tensor = self.conv1(self.normalize(x))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        if self.bn is not None:
            out = F.relu(self.bn(out))
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits
