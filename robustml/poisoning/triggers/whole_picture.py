"""A trigger as large as the picture: Chen et al. 2017 (arXiv:1712.05526) mix it in faintly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.poisoning.choose import seeded
from robustml.poisoning.triggers.trigger import picture_in


@dataclass(frozen=True)
class WholePicture:
    """A trigger that covers the picture: what `Blended` mixes in.

    Args:
        file: any picture, scaled to the size of those that it covers; None is uniform noise in [0, 1].
        seed: of the noise. Apart from the seed of a run: training and test must see the same key.

    Raises:
        RequestError: the file cannot be read as a picture; when called: the inputs are no pictures.
    """

    file: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.file is not None:
            picture_in(self.file, 1, 1, "RGB")

    def __call__(self, x: Tensor) -> Tensor:
        """The key (N, C, H, W) in place of each picture."""
        if x.ndim != 4:
            raise RequestError(f"a picture covers pictures (N, C, H, W), got inputs {tuple(x.shape)}")
        channels, height, width = x.shape[1:]
        if self.file is None:
            key = torch.rand(channels, height, width, generator=seeded(self.seed, "whole picture"))
        else:
            key = picture_in(self.file, height, width, "RGB")
            key = key.mean(dim=0, keepdim=True) if channels == 1 else key
        return key.to(x).expand_as(x)
