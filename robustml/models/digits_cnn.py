"""A network for scikit-learn's 8 x 8 digits, small enough for adversarial training in seconds on two CPU cores.

Ours, after no paper.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.models.normalize import normalization
from robustml.models.shapes import check_num_classes, flat_features, image_shape

__all__ = ["DigitsCNN"]


class DigitsCNN(nn.Module):
    """Two padded 3x3 convolutions with a 2x2 max pool between them, then one hidden layer. PyTorch's default init.

    Args:
        shape: (C, H, W) of the images; H and W at least 2.
        num_classes: at least 2.
        mean: normalisation, one value a channel; None for none.
        std: see `mean`.
        width: channels of the first convolution; the second has twice, the hidden layer four times as many.

    Raises:
        RequestError: `width` is below 1, `num_classes` below 2, the images are too small, or the normalisation does not
            fit.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 8, 8),
        num_classes: int = 10,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        width: int = 32,
    ) -> None:
        super().__init__()
        image = image_shape(shape)
        if width < 1:
            raise RequestError(f"width must be at least 1; got {width}")
        self.normalize = normalization(image[0], mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(image[0], width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(flat_features(self.features, image), 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, check_num_classes(num_classes)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(self.normalize(x)))
        return logits
