"""The MNIST network of BadNets.

Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain" (2017,
arXiv 1708.06733); architecture as two public re-implementations agree on it (verazuo/badnets-pytorch,
Dillonsd/Badnets).

Deviations: returns logits, where the paper ends in a softmax (part of the loss here). The paper's initialisation is
not known to us; this is PyTorch's default. Shapes other than (1, 28, 28) are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustml.models.normalize import normalization
from robustml.models.shapes import check_num_classes, flat_features, image_shape

__all__ = ["BadNetsCNN"]


class BadNetsCNN(nn.Module):
    """Two unpadded 5x5 convolutions (16, 32 channels), each with a 2x2 average pool, then 512 hidden units.

    Args:
        shape: (C, H, W) of the images; H and W at least 16.
        num_classes: at least 2.
        mean: normalisation, one value a channel; None for none.
        std: see `mean`.

    Raises:
        RequestError: the images are too small, `num_classes` is below 2, or the normalisation does not fit.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        image = image_shape(shape)
        self.normalize = normalization(image[0], mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(image[0], 16, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_features(self.features, image), 512),
            nn.ReLU(),
            nn.Linear(512, check_num_classes(num_classes)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(self.normalize(x)))
        return logits
