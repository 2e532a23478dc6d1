"""Where queries come from: noise, the victim's domain, natural photographs, another data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from robustml.data import DataModule, Records
from robustml.errors import RequestError
from robustml.extraction.method import Pool


class PoolSource(Protocol):
    """Gathers queries."""

    def __call__(self, data: DataModule, count: int, *, generator: Generator | None = None) -> Pool:
        """Up to `count` queries in the shape of `data`."""
        ...


@dataclass(frozen=True)
class Noise:
    """Images of no content: every value drawn uniformly from [0, 1]."""

    def __call__(self, data: DataModule, count: int, *, generator: Generator | None = None) -> Pool:
        """`count` images of noise."""
        return Pool(torch.rand(count, *data.shape, generator=generator))


@dataclass(frozen=True)
class InDomain:
    """The inputs of the victim's own training part, without labels: an attacker with data like the victim's."""

    def __call__(self, data: DataModule, count: int, *, generator: Generator | None = None) -> Pool:
        """Up to `count` inputs, drawn without replacement."""
        return Pool(_shaped(_drawn(data.train, count, generator).x, data.shape))


@dataclass(frozen=True)
class AnotherSet:
    """The training part of another data set, in the shape that the victim takes; its labels stay its own.

    Args:
        data: the set.
    """

    data: DataModule

    def __call__(self, data: DataModule, count: int, *, generator: Generator | None = None) -> Pool:
        """Up to `count` inputs, drawn without replacement.

        Raises:
            RequestError: the inputs cannot be brought into the shape of the victim's.
        """
        self.data.setup()
        drawn = _drawn(self.data.train, count, generator)
        return Pool(_shaped(drawn.x, data.shape), drawn.y)


@dataclass(frozen=True)
class NaturalImages:
    """Random squares out of the two photographs that scikit-learn bundles: natural images, nothing to download.

    Args:
        smallest: side of the smallest square in pixels; the largest is as high as the photograph.

    Raises:
        RequestError: when called, the victim does not take images.
    """

    smallest: int = 32

    def __call__(self, data: DataModule, count: int, *, generator: Generator | None = None) -> Pool:
        """`count` squares, scaled to the victim's size; either photograph is a class of its own."""
        from sklearn.datasets import load_sample_images  # a second, for this pool alone

        photographs = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
        labels = torch.randint(0, len(photographs), (count,), generator=generator)
        draws = torch.rand(count, 3, generator=generator)
        squares = []
        for label, (size, down, right) in zip(labels.tolist(), draws.tolist(), strict=True):
            photo = photographs[label]
            height, width = photo.shape[1:]
            side = int(self.smallest * (height / self.smallest) ** size)
            top, left = int(down * (height - side)), int(right * (width - side))
            squares.append(_shaped(photo[None, :, top : top + side, left : left + side], data.shape))
        return Pool(torch.cat(squares), labels)


def _drawn(records: Records, count: int, generator: Generator | None) -> Records:
    """Up to `count` records in random order."""
    return records.take(torch.randperm(len(records), generator=generator)[:count])


def _shaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Inputs (N, ...), bytes or in [0, 1], as (N, *shape) in [0, 1]: grey or coloured, and scaled, where images.

    Raises:
        RequestError: there is no way from one shape to the other.
    """
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    shape = tuple(shape)
    if x.shape[1:] == shape:
        return x
    if x.ndim != 4 or len(shape) != 3 or (x.shape[1], shape[0]) not in ((1, 1), (3, 3), (1, 3), (3, 1)):
        raise RequestError(
            f"the pool's inputs have shape {tuple(x.shape[1:])}, the victim takes {shape}: choose another pool"
        )
    if x.shape[1] != shape[0]:
        x = x.mean(dim=1, keepdim=True) if shape[0] == 1 else x.expand(-1, 3, -1, -1)
    scaled = functional.interpolate(x, size=shape[1:], mode="bilinear", antialias=True)
    return scaled.clamp(0, 1)  # rounding may leave the range
