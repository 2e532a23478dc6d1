"""The MNIST network of BadNets.

Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain" (2017,
arXiv 1708.06733); architecture as two public re-implementations agree on it (verazuo/badnets-pytorch,
Dillonsd/Badnets).

Deviations: returns logits, where the paper ends in a softmax (part of the loss here). The paper's initialisation is
not known to us; this is PyTorch's default. Shapes other than (1, 28, 28) are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustml.models.network import Network, image_shape, two_layers
from robustml.models.normalize import PerChannel


class BadNetsCNN(Network):
    """Two unpadded 5x5 convolutions (16, 32 channels), each with a 2x2 average pool, then 512 hidden units.

    Arguments as of `Network`; H and W at least 16.
    """

    def __init__(
        self, shape: Sequence[int] = (1, 28, 28), num_classes: int = 10, mean: PerChannel = None, std: PerChannel = None
    ) -> None:
        image = image_shape(shape)
        super().__init__(image[0], mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(image[0], 16, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        self.classifier = two_layers(self.features, image, 512, num_classes)
