"""The MNIST network of PGD adversarial training.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks" (ICLR 2018,
arXiv 1706.06083); architecture and initialisation as in MadryLab/mnist_challenge@3ee3643, model.py.

Deviations: features are flattened channel first, TensorFlow's channel last (the same function up to the order of
fc1's inputs, so it matters only for loading their checkpoint). Shapes other than (1, 28, 28) are ours; odd sizes are
pooled as TensorFlow's SAME padding does, rounding up.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustml.models.network import Network, image_shape, two_layers
from robustml.models.normalize import PerChannel


class MadryCNN(Network):
    """Two 5x5 convolutions (32, 64 channels), each with a 2x2 max pool, then 1,024 hidden units.

    Weights start from a normal of deviation 0.1 truncated at two deviations, biases at 0.1. Arguments as of `Network`;
    images of any size. The paper has no normalisation.
    """

    def __init__(
        self, shape: Sequence[int] = (1, 28, 28), num_classes: int = 10, mean: PerChannel = None, std: PerChannel = None
    ) -> None:
        image = image_shape(shape)
        super().__init__(image[0], mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(image[0], 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
        )
        self.classifier = two_layers(self.features, image, 1024, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
                nn.init.constant_(module.bias, 0.1)
