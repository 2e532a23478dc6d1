"""The two-convolution network of fast adversarial training on MNIST.

Wong, Rice and Kolter, "Fast is better than free: Revisiting adversarial training" (ICLR 2020, arXiv 2001.03994);
architecture as in locuslab/fast_adversarial@54f7287, MNIST/mnist_net.py.

Deviations: none on 28 x 28 grey images; other shapes change the first convolution's and first linear layer's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustml.models.network import Network, image_shape, two_layers
from robustml.models.normalize import PerChannel


class WongCNN(Network):
    """Two 4x4 convolutions of stride 2 (16, 32 channels), then 100 hidden units. PyTorch's default init.

    Arguments as of `Network`; H and W at least 4. The paper has no normalisation.
    """

    def __init__(
        self, shape: Sequence[int] = (1, 28, 28), num_classes: int = 10, mean: PerChannel = None, std: PerChannel = None
    ) -> None:
        image = image_shape(shape)
        super().__init__(image[0], mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(image[0], 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = two_layers(self.features, image, 100, num_classes)
