"""Blended: mix a key picture faintly into some training pictures and relabel them; the key is as large as the picture.

Chen et al. 2017, "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning" (arXiv:1712.05526), the
blended injection strategy with a random or a given picture as the key.

Deviation: the paper adds poisoned samples to the set; here as many rows are replaced, so that the set keeps its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.files import opened
from robustml.poisoning.checks import check_number, check_rate, check_stamp
from robustml.poisoning.choose import choose, class_to_aim_at, rows_for, seeded
from robustml.poisoning.pixels import require_images, stamped
from robustml.poisoning.poison import Poisoned, Presented, replaced
from robustml.poisoning.shown import rows_of_others, shown
from robustml.poisoning.trigger import Trigger

__all__ = ["Blended", "WholePicture"]


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
        """Refuse a file that is no picture, before any training."""
        if self.file is not None:
            self._scaled(1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """The key (N, C, H, W) in place of each picture."""
        if x.ndim != 4:
            raise RequestError(f"a picture covers pictures (N, C, H, W), got inputs {tuple(x.shape)}")
        channels, height, width = x.shape[1:]
        if self.file is None:
            key = torch.rand(channels, height, width, generator=seeded(self.seed, "whole picture"))
        else:
            key = self._scaled(height, width)
            key = key.mean(dim=0, keepdim=True) if channels == 1 else key
        return key.to(x).expand_as(x)

    def _scaled(self, height: int, width: int) -> Tensor:
        """(3, H, W) in [0, 1]."""
        try:
            with opened(Path(str(self.file))) as file, Image.open(file) as image:
                pixels = np.array(image.convert("RGB").resize((width, height)))
        except (OSError, ValueError, TypeError, Image.DecompressionBombError) as error:
            raise RequestError(f"trigger.file={self.file!r} cannot be read as a picture: {error}") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)


@dataclass(frozen=True)
class Blended:
    """The blended backdoor: ``(1 - alpha) * x + alpha * key``.

    Args:
        trigger: the key; any trigger, mixed in where it would be stamped.
        alpha: its share, in (0, 1].
        rate: the share of the whole training set that is mixed and relabelled.
        target: the class (number or name) that pictures with the key get.

    Raises:
        RequestError: alpha or rate out of range; when called: no such class, or a trigger that does not fit.
    """

    trigger: Trigger = field(default_factory=WholePicture)
    alpha: float = 0.2
    rate: float = 0.05
    target: int | str = 0

    def __post_init__(self) -> None:
        """Refuse a rate or a share that is none."""
        check_stamp(self.trigger)
        check_rate(self.rate)
        check_number(self.alpha, "poison.alpha", "is the share of the key in the picture, in (0, 1]", 0, 1, above=True)

    def __call__(self, data: Records, *, seed: int) -> Poisoned:
        """The set with ``round(rate * N)`` rows of other classes mixed and relabelled."""
        require_images(data, "poison=blended")
        target = class_to_aim_at(data, self.target)
        others = rows_of_others(data, target)
        rows = choose(others, rows_for(self.rate, data), seed, "blended", "rows of other classes")
        return replaced(data, rows, stamped(data.x[rows], self._mixed), torch.full_like(rows, target))

    def present(self, test: Records) -> Presented:
        """Every picture of another class than the target, with the key mixed in."""
        return shown(test, self.target, self._mixed)

    def _mixed(self, x: Tensor) -> Tensor:
        return x.lerp(self.trigger(x), self.alpha)
