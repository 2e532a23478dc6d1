"""The MNIST network of PGD adversarial training.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks" (ICLR 2018,
arXiv 1706.06083); architecture and initialisation as in MadryLab/mnist_challenge@3ee3643, model.py.

Deviations: features are flattened channel first, TensorFlow's channel last (the same function up to the order of
fc1's inputs, so it matters only for loading their checkpoint). Shapes other than (1, 28, 28) are ours; odd sizes are
pooled as TensorFlow's SAME padding does, rounding up.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustml.models.normalize import normalization
from robustml.models.shapes import check_num_classes, flat_features, image_shape

__all__ = ["MadryCNN"]


class MadryCNN(nn.Module):
    """Two 5x5 convolutions (32, 64 channels), each with a 2x2 max pool, then 1,024 hidden units.

    Weights start from a normal of deviation 0.1 truncated at two deviations, biases at 0.1.

    Args:
        shape: (C, H, W) of the images, of any size.
        num_classes: at least 2.
        mean: normalisation, one value a channel; None, as in the paper, for none.
        std: see `mean`.

    Raises:
        RequestError: `num_classes` is below 2, or the shape or the normalisation does not fit.
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
            nn.Conv2d(image[0], 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_features(self.features, image), 1024),
            nn.ReLU(),
            nn.Linear(1024, check_num_classes(num_classes)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.trunc_normal_(module.weight, std=0.1, a=-0.2, b=0.2)
                nn.init.constant_(module.bias, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(self.normalize(x)))
        return logits
