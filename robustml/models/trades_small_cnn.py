"""The SmallCNN of TRADES on MNIST.

Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between Robustness and Accuracy"
(ICML 2019, arXiv 1901.08573); architecture and initialisation as in yaodongyu/TRADES@6e8e11b, models/small_cnn.py.
Layer names are theirs, so that their checkpoint loads.

Deviations: none on 28 x 28 grey images; other shapes change conv1's and fc1's inputs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from robustml.models.network import check_num_classes, flat_features, image_shape
from robustml.models.normalize import PerChannel, normalization


class TradesSmallCNN(nn.Module):
    """Four unpadded 3x3 convolutions (32, 32, 64, 64 channels) and two max pools, then two layers of 200 units.

    Convolutions start from He's normal (fan in) with zero biases. The last layer starts at zero, so that a fresh
    network returns equal logits and passes no gradient to its input until the first update. Arguments as of `Network`;
    H and W at least 16. The paper has no normalisation.

    Args:
        dropout: probability of dropping a unit after fc1 in training.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        mean: PerChannel = None,
        std: PerChannel = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        image = image_shape(shape)
        self.normalize = normalization(image[0], mean, std)
        self.feature_extractor = nn.Sequential(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(image[0], 32, 3),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 32, 3),
                relu2=nn.ReLU(),
                maxpool1=nn.MaxPool2d(2),
                conv3=nn.Conv2d(32, 64, 3),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(64, 64, 3),
                relu4=nn.ReLU(),
                maxpool2=nn.MaxPool2d(2),
            )
        )
        last = nn.Linear(200, check_num_classes(num_classes))
        self.classifier = nn.Sequential(
            OrderedDict[str, nn.Module](
                fc1=nn.Linear(flat_features(self.feature_extractor, image), 200),
                relu1=nn.ReLU(),
                drop=nn.Dropout(dropout),
                fc2=nn.Linear(200, 200),
                relu2=nn.ReLU(),
                fc3=last,
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.feature_extractor(self.normalize(x)).flatten(1))
        return logits
