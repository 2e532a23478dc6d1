"""Channel Lipschitz pruning: cut the channels that a small change of their input moves most; needs no data.

Zheng, Tang, Li and Liu, "Data-free Backdoor Removal Based on Channel Lipschitzness" (ECCV 2022, arXiv:2208.03111): the
bound of a channel is the largest singular value of its kernel as a matrix of its input channels by the places of the
kernel, times what batch norm makes of it, |weight| / sqrt(variance + eps). In each layer the channels fall whose bound
is above the mean by more than u standard deviations.

Deviations: convolutions without batch norm are pruned too, by the kernel alone. One record shows which batch norm
belongs to which convolution; its values do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.reading import require_classes
from robustml.defenses.repair.convolutions import Convolution, convolutions_of
from robustml.defenses.repair.tuning import copied
from robustml.errors import RequestError
from robustml.types import Labelled


@dataclass(frozen=True)
class ChannelLipschitzPruning:
    """Prunes every convolution; nothing is trained, and nothing drawn.

    Args:
        u: so many standard deviations above its layer's mean a channel's bound may be.

    Raises:
        RequestError: `u` is negative.
    """

    u: float = 3.0

    def __post_init__(self) -> None:
        if not self.u >= 0:
            raise RequestError(f"u must be at least 0, got {self.u}")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """The pruned copy.

        Raises:
            RequestError: the model has no convolution, or was trained on other classes.
        """
        require_classes(model, records)
        found = copied(model).eval()
        layers = convolutions_of(found, records.x)
        if not layers:
            raise RequestError("channel Lipschitz pruning needs a model with convolutions: take another repair")
        for layer in layers:
            bounds = lipschitz_bounds(layer)
            layer.silence((bounds > bounds.mean() + self.u * bounds.std(correction=0)).nonzero().squeeze(1))
        return found


@torch.no_grad()
def lipschitz_bounds(layer: Convolution) -> Tensor:
    """The bound (C,) of each output channel of a convolution, its batch norm included."""
    bounds: Tensor = torch.linalg.matrix_norm(layer.layer.weight.flatten(2), ord=2)
    norm = layer.norm
    if norm is not None and norm.running_var is not None:
        size = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight.abs()
        bounds = bounds * size / (norm.running_var + norm.eps).sqrt()
    return bounds
