"""Synthetic waveforms: short tones, told apart by pitch and by the shape of their wave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robustml.data.records import Records
from robustml.data.splits import Split
from robustml.errors import RequestError

_BANDS = {"low": (8.0, 16.0), "high": (24.0, 48.0)}
_WAVES = ("sine", "square", "sawtooth")
_CLASSES = tuple(f"{band} {wave}" for band in _BANDS for wave in _WAVES)
# A recording of 16 bits. Rounding to it also hides the last bits, in which the sines of two processors differ.
_LEVELS = 2**16 - 1


@dataclass(frozen=True)
class Tones:
    """Six classes, a low and a high band of a sine, a square and a sawtooth wave, in turn.

    A tone has a frequency drawn from its band (8 to 16 or 24 to 48 periods a waveform), a random phase and a random
    loudness (an amplitude of 0.2 to 0.4 around the middle, 0.5); Gaussian noise is added, and the sum is clipped to
    [0, 1] and rounded to 16 bits. Silence is 0.5.

    Args:
        train: waveforms to train on.
        test: waveforms to test on, drawn apart from those.
        length: samples a waveform, at least 128, since the square wave of the high band needs that many.
        noise: standard deviation of the noise, in the unit of the waveform, at least 0.
        seed: draws the set, hence part of its identity, and apart from the seed of a run.

    Raises:
        RequestError: a part of fewer than 6 waveforms (one a class), or an argument below its least value.
    """

    train: int = 1200
    test: int = 300
    length: int = 1024
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what could not be drawn."""
        if min(self.train, self.test) < len(_CLASSES):
            raise RequestError(
                f"expected at least {len(_CLASSES)} tones in each part, one a class, got train={self.train} and "
                f"test={self.test}"
            )
        if self.length < 128 or not self.noise >= 0 or self.seed < 0:
            raise RequestError(
                f"expected length >= 128, noise >= 0 and seed >= 0, got length={self.length}, noise={self.noise} and "
                f"seed={self.seed}"
            )

    def load(self, split: Split) -> Records:
        """Waveforms (N, 1, length), float32 in [0, 1]."""
        count = self.train if split == "train" else self.test
        # RandomState, not Generator: NumPy freezes its stream for good
        random = np.random.RandomState([self.seed, int(split == "test")])
        y = np.arange(count) % len(_CLASSES)
        bands = np.array(list(_BANDS.values()))[y // len(_WAVES)]
        periods, phase, amplitude = random.uniform(
            [bands[:, 0], np.zeros(count), np.full(count, 0.2)], [bands[:, 1], np.ones(count), np.full(count, 0.4)]
        )
        turns = (periods[:, None] * np.arange(self.length) / self.length + phase[:, None]) % 1
        waves = _wave(turns, (y % len(_WAVES))[:, None])
        heard = 0.5 + amplitude[:, None] * waves + random.normal(0, self.noise, waves.shape)
        x = np.rint(heard.clip(0, 1) * _LEVELS) / _LEVELS
        return Records(torch.from_numpy(x.astype(np.float32)).unsqueeze(1), torch.from_numpy(y), _CLASSES)


def _wave(turns: NDArray[np.float64], kind: NDArray[np.int64]) -> NDArray[np.float64]:
    """The waves (N, T), in [-1, 1], at `turns` (N, T) in [0, 1) of a period; `kind` (N, 1) is a place in _WAVES."""
    return np.where(kind == 0, np.sin(2 * np.pi * turns), np.where(kind == 1, np.sign(0.5 - turns), 2 * turns - 1))
