"""Noise on the answers that cannot be averaged away by asking again, or by asking about nearly the same input.

No paper: what an endpoint can do beyond rounding. Noise that is drawn from the input, exact or on any grid, is fresh
for inputs that the model cannot tell apart (a value in a corner of the image is enough), so that averaging over them
takes it off. Here it is drawn from the model's own answer: inputs that are answered alike get the same noise, whatever
they are. It is no grid of answers either, whose edges would give away two noises for one answer, but one smooth random
function of the probabilities: a Gaussian process, drawn by random Fourier features (Rahimi and Recht, NeurIPS 2007).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustml.errors import RequestError
from robustml.extraction.victim import hard_labels

_FEATURES = 256
# In units of `scale`: how far probabilities must move for the noise to become another.
_LENGTH = 2.0


@dataclass(frozen=True)
class OutputNoise:
    """Adds Gaussian noise to probabilities, and makes probabilities of the sum again.

    The noise is a fixed function of the probabilities p that the secret draws: normal with standard deviation `scale`
    at every p, and correlated as exp(-|p - q|^2 / 2 l^2) between p and q, with l = 2 `scale` and Euclidean distance.
    Therefore:

    - Asked again, or about any input with the same p, the interface answers alike. Averaging takes nothing off.
    - Over inputs whose p lie within a distance r of each other, averaging leaves at least the share
      exp(-r^2 / 2 l^2) of the noise's variance: 88% of it where they differ by as much as the noise, r = `scale`.
    - Averaging over inputs whose p differ by more than that does recover their mean, and a fit of many answers, such as
      the training of a copy, their trend: there are as many independent noises as pieces of length l in the path that p
      takes. What it hides is single answers, not the model.
    - Differences between close answers are nearly those of the model: it does not keep gradients from being estimated.
    - Labels are what they were, unless the two largest probabilities are about as close as the noise.

    All clients, and every start of an endpoint, must share one secret: noises of several secrets can be averaged.

    Args:
        scale: standard deviation of the noise.
        secret: what it is drawn from. Whoever knows or guesses it can compute the noise, so take 16 random bytes or
            more (``secrets.token_hex()``). It is not shown where this object is printed.

    Raises:
        RequestError: a scale that is not above 0, or no secret.
    """

    scale: float = 0.1
    secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise RequestError(f"defense.scale must be above 0, got {self.scale}")
        if self.secret is None or isinstance(self.secret, bool) or not str(self.secret).strip():
            raise RequestError(
                "defense.secret is missing: without one everybody can compute the noise and take it off; give "
                "secrets.token_hex() or the like"
            )

    def __call__(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """Noisy rows (N, C), float64; the inputs `x` (N, ...) do not matter."""
        rows = probabilities.double()
        noisy = (rows + self.scale * self._noise(rows)).clamp_min(0)
        total = noisy.sum(dim=1, keepdim=True)
        # noise may leave nothing of a row
        return torch.where(total > 0, noisy / total.clamp_min(1e-12), hard_labels(rows))

    def _noise(self, rows: Tensor) -> Tensor:
        """A standard normal number for each probability of rows (N, C)."""
        parts = _drawn(str(self.secret), rows.shape[1])
        frequencies, phases, weights = (torch.from_numpy(part).to(rows.device) for part in parts)
        waves = (rows @ frequencies / (_LENGTH * self.scale) + phases).cos()
        # of length 1, so that the variance is exactly 1 at every place, and not only on average
        noise: Tensor = waves / waves.norm(dim=1, keepdim=True) @ weights
        return noise


@lru_cache(maxsize=8)
def _drawn(secret: str, classes: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies (C, F), phases (F,) and weights (F, C) of a random function of `classes` probabilities.

    Torch's and numpy's generators can be seeded by guessing, the former with 32 bits: the numbers come from a hash.
    """
    from scipy.special import ndtri  # a while, for this defense alone

    key = hashlib.sha256(secret.encode(errors="surrogatepass")).digest() + classes.to_bytes(8, "little")
    stream = hashlib.shake_256(key).digest(8 * _FEATURES * (2 * classes + 1))
    uniform = (np.frombuffer(stream, dtype="<u8") >> np.uint64(12)).astype(np.float64) / 2**52 + 2.0**-53
    frequencies, phases, weights = np.split(uniform, [_FEATURES * classes, _FEATURES * (classes + 1)])
    return (
        ndtri(frequencies).reshape(classes, _FEATURES),
        2 * np.pi * phases,
        ndtri(weights).reshape(_FEATURES, classes),
    )
