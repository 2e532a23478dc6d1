"""The single-layer network in which catastrophic overfitting can be watched at work.

Andriushchenko and Flammarion, "Understanding and Improving Fast Adversarial Training" (NeurIPS 2020, arXiv
2007.02617), figure 11; architecture and initialisation as in tml-epfl/understanding-fast-adv-training@ceed494.

Deviations: none on 32 x 32 colour images; the official code admits no other than square ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustml.models.network import at_least_1, check_num_classes, he_normal_, image_shape
from robustml.models.normalize import PerChannel, normalization


class SingleLayerCNN(nn.Module):
    """One padded 3x3 convolution, ReLU, one linear layer. N(0, sqrt(2/n)) weights, zero biases.

    Arguments as of `Network`; images of any size. The paper has no normalisation.

    Args:
        filters: channels of the convolution; 4 in the paper.
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        mean: PerChannel = None,
        std: PerChannel = None,
        filters: int = 4,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape(shape)
        at_least_1("filters", filters)
        self.normalize = normalization(channels, mean, std)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, filters, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(filters * height * width, check_num_classes(num_classes)),
        )
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.layers(self.normalize(x))
        return logits
