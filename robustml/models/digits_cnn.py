"""A network for scikit-learn's 8 x 8 digits, small enough for adversarial training in seconds on two CPU cores.

Ours, after no paper.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustml.models.network import Network, at_least_1, image_shape, two_layers
from robustml.models.normalize import PerChannel


class DigitsCNN(Network):
    """Two padded 3x3 convolutions with a 2x2 max pool between them, then one hidden layer. PyTorch's default init.

    Arguments as of `Network`; H and W at least 2.

    Args:
        width: channels of the first convolution; the second has twice, the hidden layer four times as many.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 8, 8),
        num_classes: int = 10,
        mean: PerChannel = None,
        std: PerChannel = None,
        width: int = 32,
    ) -> None:
        image = image_shape(shape)
        super().__init__(image[0], mean, std)
        at_least_1("width", width)
        self.features = nn.Sequential(
            nn.Conv2d(image[0], width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = two_layers(self.features, image, 4 * width, num_classes)
