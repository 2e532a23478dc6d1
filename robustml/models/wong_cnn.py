"""The two-convolution network of fast adversarial training on MNIST.

Wong, Rice and Kolter, "Fast is better than free: Revisiting adversarial training" (ICLR 2020, arXiv 2001.03994);
architecture as in locuslab/fast_adversarial@54f7287, MNIST/mnist_net.py.

Deviations: none on 28 x 28 grey images; other shapes change the first convolution's and first linear layer's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustml.models.normalize import normalization
from robustml.models.shapes import check_num_classes, flat_features, image_shape

__all__ = ["WongCNN"]


class WongCNN(nn.Module):
    """Two 4x4 convolutions of stride 2 (16, 32 channels), then 100 hidden units. PyTorch's default init.

    Args:
        shape: (C, H, W) of the images; H and W at least 4.
        num_classes: at least 2.
        mean: normalisation, one value a channel; None, as in the paper, for none.
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
            nn.Conv2d(image[0], 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_features(self.features, image), 100),
            nn.ReLU(),
            nn.Linear(100, check_num_classes(num_classes)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(self.normalize(x)))
        return logits
