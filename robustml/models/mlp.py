"""A multilayer perceptron: fully connected layers with ReLU between them, on inputs of any shape.

With `hidden=()` it is a linear classifier, whose smallest adversarial perturbation is known in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.models.network import check_num_classes
from robustml.models.normalize import PerChannel, normalization


class MLP(nn.Module):
    """Flatten, then for each hidden width Linear, ReLU (and dropout), then a last Linear. PyTorch's default init.

    Arguments as of `Network`.

    Args:
        shape: of one input, such as (C, H, W) or (features,).
        hidden: widths of the hidden layers, in order; empty for a linear classifier.
        dropout: probability of dropping a hidden unit in training, in [0, 1].
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int,
        hidden: Sequence[int] = (256, 256),
        mean: PerChannel = None,
        std: PerChannel = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not shape or min(shape) < 1:
            raise RequestError(f"expected a shape of sizes of at least 1; got {tuple(shape)}")
        if any(width < 1 for width in hidden):
            raise RequestError(f"hidden widths must be at least 1; got {tuple(hidden)}")
        self.normalize = normalization(shape[0], mean, std)
        layers: list[nn.Module] = []
        width_in = math.prod(shape)
        for width in hidden:
            layers += [nn.Linear(width_in, width), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width_in = width
        layers.append(nn.Linear(width_in, check_num_classes(num_classes)))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (N, *shape), images in [0, 1], to logits (N, num_classes)."""
        logits: Tensor = self.layers(self.normalize(x).flatten(1))
        return logits
