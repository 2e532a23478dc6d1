"""Mixing of images within a batch: each result shows two images, and its label says how much of each class.

CutMix: Yun et al., "CutMix: Regularization strategy to train strong classifiers with localizable features", ICCV 2019,
arXiv:1905.04899; for robustness, Rebuffi et al., "Fixing data augmentation to improve adversarial robustness", 2021,
arXiv:2103.01946. As in the authors' code, a batch has one box and one pairing, and a box that reaches over the border
is cut off there, its label counted by the pixels that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from robustml.errors import RequestError


class Mix(Protocol):
    """A random blend of the images of a batch with each other."""

    def __call__(
        self, x: Tensor, y: Tensor, classes: int, progress: float, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Blend images (N, ...) of any dtype with labels (N,).

        Args:
            x: the images; they stay as they are.
            y: their labels in 0..classes - 1.
            classes: how many there are.
            progress: 0 in the first epoch of the run, 1 in its last.
            generator: on the CPU; what is drawn from it alone decides.

        Returns:
            The blended images, of the shape and dtype of `x`, and how much of each class is in each of them: (N, C)
            float32, rows of sum 1.
        """
        ...


@dataclass(frozen=True)
class CutMix:
    """Paste a box of another image of the batch into each image, under a linear schedule.

    Neither paper has a schedule. This one is of the probability that a batch is mixed at all: `start` in the first
    epoch, `end` in the last, on a straight line between; a run of one epoch has `end`. Labels are distributions in
    every batch, mixed or not. With `start` and `end` alike, no schedule; Yun et al. mix half of the batches on
    CIFAR-10.

    Args:
        alpha: the share of an image that is kept is drawn from Beta(alpha, alpha); 1 is uniform, as published.
        start: the probability that a batch is mixed in the first epoch.
        end: the same in the last epoch.

    Raises:
        RequestError: `alpha` is not above 0, or a probability outside [0, 1]; when called, on anything but images
            (N, C, H, W).
    """

    alpha: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        """Refuse arguments out of range at once, not in the first batch."""
        if not self.alpha > 0:
            raise RequestError(f"expected an alpha of the Beta distribution above 0, got {self.alpha}")
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1):
            raise RequestError(f"expected probabilities start and end in [0, 1], got {self.start} and {self.end}")

    def __call__(
        self, x: Tensor, y: Tensor, classes: int, progress: float, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Mix a batch (N, C, H, W), as `Mix` says."""
        if x.ndim != 4:
            raise RequestError(f"expected images (N, C, H, W) to cut from, got {tuple(x.shape)}; set data/mix=null")
        labels = one_hot(y, classes).float()
        # torch draws no Beta variates from a generator
        draw = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
        if draw.random() >= self.start + (self.end - self.start) * progress:
            return x, labels
        top, bottom, left, right = self._box(x.shape[2], x.shape[3], draw)
        partner = torch.from_numpy(draw.permutation(len(x))).to(x.device)
        mixed = x.clone()
        mixed[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
        pasted = (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
        return mixed, (1 - pasted) * labels + pasted * labels[partner]

    def _box(self, height: int, width: int, draw: np.random.Generator) -> tuple[int, int, int, int]:
        """Rows from, to and columns from, to of the box: of the shape of the image, around a uniformly drawn pixel."""
        side = np.sqrt(1 - draw.beta(self.alpha, self.alpha))
        edges: list[int] = []
        for length in (height, width):
            centre, half = int(draw.integers(length)), int(length * side) // 2
            edges += [max(centre - half, 0), min(centre + half, length)]
        return edges[0], edges[1], edges[2], edges[3]
