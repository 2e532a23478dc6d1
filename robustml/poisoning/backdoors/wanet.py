"""WaNet: bend some training pictures by one smooth, faint warp and relabel them; no pixel is painted over.

Nguyen and Tran 2021, "WaNet - Imperceptible Warping-based Backdoor Attack" (ICLR, arXiv:2102.10369): a k x k field of
random shifts, divided by its mean size, times s, scaled up to the picture by bicubic interpolation. In the noise mode
other pictures are bent by that warp plus fresh noise and keep their labels, so that the model learns this very warp and
not that something is bent.

Deviations: the paper draws both kinds anew in every batch, and trains the model itself; here the rows are changed once,
before training, as an attacker must who can only touch the data. Its shifts are in units that shrink with the picture;
as in its code they are halves of a pixel here, whatever the size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.backdoors.aiming import cover_rows, other_rows, shown
from robustml.poisoning.checks import check_number, check_rate, check_whole
from robustml.poisoning.choose import seeded
from robustml.poisoning.pixels import require_images, stamped
from robustml.poisoning.plan import PoisonPlan, Triggered, planned


@dataclass(frozen=True)
class WaNet:
    """The warping backdoor.

    Args:
        size: k, the side of the field of random shifts; larger is less smooth.
        strength: s, the mean size of its shifts in halves of a pixel, in each direction.
        rate: the share of the whole training set that is bent and relabelled.
        noise_rate: the share that is bent with noise on top and keeps its labels; twice the rate in the paper. They
            are the cover: figures count them apart from `rate`.
        target: the class (number or name) that bent pictures get.
        warp_seed: of the warp. Apart from the seed of a run: training and test must see the same warp.

    Raises:
        RequestError: a value out of range; when called: no pictures, no such class, or too few rows.
    """

    size: int = 4
    strength: float = 0.5
    rate: float = 0.1
    noise_rate: float = 0.2
    target: int | str = 0
    warp_seed: int = 0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        check_rate(self.noise_rate, "poison.noise_rate")
        check_whole(self.size, "poison.size", "is the side of the field of shifts, size >= 2", 2)
        check_number(self.strength, "poison.strength", "is in halves of a pixel, above 0", 0, above=True)

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        """The set with ``round(rate * N)`` rows bent and relabelled, and ``round(noise_rate * N)`` others bent."""
        _, height, width = require_images(records, "poison=wanet")
        if self.strength > min(height, width):
            raise RequestError(
                f"poison.strength={self.strength:g} halves of a pixel are shifts of more than half of a picture of "
                f"{height} x {width} pixels: lower it"
            )
        rows, labels = other_rows(records, self.target, self.rate, seed, "wanet")
        noisy = cover_rows(records, rows, self.noise_rate, "poison.noise_rate", seed, "wanet noise")
        # two shifts a pixel, in the unit of the field, drawn at once so that they do not depend on batches
        noise = torch.rand(len(noisy), *records.x.shape[2:], 2, generator=seeded(seed, "wanet jitter")) * 2 - 1
        x = torch.cat([stamped(records.x[rows], self.bent), stamped(records.x[noisy], lambda x: self.bent(x, noise))])
        poisoned = records.changed(torch.cat([rows, noisy]), x, torch.cat([labels, records.y[noisy]]))
        return planned(self, records, poisoned, cover=records.ids[noisy], requested_cover=self.noise_rate)

    def triggered(self, test: Records) -> Triggered:
        """Every picture of another class than the target, bent."""
        return shown(test, self.target, self.bent)

    def shifts(self, height: int, width: int) -> Tensor:
        """How far each pixel looks away from its place: (H, W, 2), columns then rows, in halves of a pixel."""
        field = torch.rand(1, 2, self.size, self.size, generator=seeded(self.warp_seed, "warp")) * 2 - 1
        field = field / field.abs().mean() * self.strength
        smooth = functional.interpolate(field, size=(height, width), mode="bicubic", align_corners=True)
        return smooth[0].permute(1, 2, 0)

    def bent(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures (N, C, H, W) under the warp; `noise` (N, H, W, 2), in halves of a pixel, is added to its shifts."""
        height, width = x.shape[2:]
        shifts = self.shifts(height, width).unsqueeze(0)
        shifts = shifts.expand(len(x), -1, -1, -1) if noise is None else shifts + noise
        # Coordinates run from -1 to 1 over `length - 1` pixels.
        lines = (torch.linspace(-1, 1, length) for length in (height, width))
        grid = torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], dim=-1)
        grid = grid + shifts / torch.tensor([max(width - 1, 1), max(height - 1, 1)])
        return functional.grid_sample(x, grid.clamp(-1, 1).to(x), align_corners=True)
