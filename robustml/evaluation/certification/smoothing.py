"""Randomised smoothing: the class that a model gives most often under Gaussian noise, with a certified L2 radius.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, arXiv:1902.02918:
CERTIFY and PREDICT of section 3.2, with the paper's names. Deviation: `n` is 1,000 by default, 100,000 in the paper;
fewer draws certify smaller radii, at most sigma Phi^-1(alpha^(1/n)), 2.46 sigma and 3.81 sigma. All draws are made,
none is saved by stopping early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.evaluation.certification.certificates import ABSTAINED, Certificates
from robustml.models.smoothed import SmoothedModel
from robustml.modes import evaluating
from robustml.progress import note

_BLOCK = 16


@dataclass(frozen=True)
class Smoothing:
    """The smoothed classifier of a model, known by sampling.

    Every example draws from its own generator, so that what is found for it does not depend on the batch it came in.
    The noisy images are not clipped.

    Args:
        sigma: standard deviation of the noise, in the unit of the images; the model should be trained on as much
            (`robustml.objectives.GaussianNoise`).
        n0: draws that choose the class to certify.
        n: draws that bound its probability, and draws of a prediction.
        alpha: how probable it is, at most, that one example's certificate is wrong, and one prediction, too.
        batch_size: noisy images that the model sees at once; it decides nothing but the speed.
        attack_samples: noises that an attack on the smoothed classifier averages (`SmoothedModel`).

    Raises:
        RequestError: a value out of its range.
    """

    name: ClassVar[str] = "smoothing"
    norm: ClassVar[str] = "2"

    sigma: float
    n0: int = 100
    n: int = 1000
    alpha: float = 0.001
    batch_size: int = 1000
    attack_samples: int = 16

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        if not self.sigma > 0:
            raise RequestError(f"smoothing needs sigma > 0, got {self.sigma}")
        if not 0 < self.alpha < 0.5:
            raise RequestError(f"alpha is the probability of a wrong certificate, expected 0 to 0.5, got {self.alpha}")
        for name in ("n0", "n", "batch_size", "attack_samples"):
            if getattr(self, name) < 1:
                raise RequestError(f"smoothing needs {name} >= 1, got {getattr(self, name)}")

    @property
    def error_rate(self) -> float:
        """`alpha` for the certificate, and as much again for the prediction that is held against it."""
        return 2 * self.alpha

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        radii: Sequence[float],
        bounds: tuple[float, float],
        generators: Sequence[Generator],
    ) -> Certificates:
        """As `certify`, which needs neither labels nor radii nor the image box: smoothing certifies whatever class."""
        return self.certify(model, x, generators)

    def certify(self, model: nn.Module, x: Tensor, generators: Sequence[Generator]) -> Certificates:
        """CERTIFY: the most frequent class of `n0` draws, if `n` more show that it has more than half of them.

        Args:
            model: images (N, ...) to logits (N, C); in eval mode, and handed back as found.
            x: (N, ...).
            generators: one for each example, on the device of `x`.

        Returns:
            The classes, and radii sigma Phi^-1(p_A) with p_A the one-sided Clopper-Pearson bound; -1 and -1 where the
            method abstains.
        """
        from scipy.stats import norm

        chosen = self._counts(model, x, self.n0, generators).argmax(axis=1)
        counts = self._counts(model, x, self.n, generators)[np.arange(len(x)), chosen]
        p_lower = lower_confidence_bound(counts, self.n, self.alpha)
        certain = p_lower > 0.5
        radius = np.where(certain, self.sigma * norm.ppf(p_lower), -1.0)
        prediction = np.where(certain, chosen, ABSTAINED)
        return Certificates(torch.from_numpy(prediction).to(x.device), torch.from_numpy(radius).to(x.device))

    def predict(self, model: nn.Module, x: Tensor, generators: Sequence[Generator]) -> Tensor:
        """PREDICT: the most frequent class (N,) of `n` draws, unless a fair coin could have put it before the second.

        Arguments are those of `certify`. The test is two-sided, at level `alpha`.
        """
        from scipy.stats import binomtest

        counts = self._counts(model, x, self.n, generators)
        second, first = np.sort(counts, axis=1)[:, -2:].T
        likely = [binomtest(int(a), int(a + b)).pvalue <= self.alpha for a, b in zip(first, second, strict=True)]
        return torch.from_numpy(np.where(likely, counts.argmax(axis=1), ABSTAINED)).to(x.device)

    def attackable(self, model: nn.Module) -> nn.Module:
        """The mean softmax over a few noises, to differentiate."""
        return SmoothedModel(model, self.sigma, self.attack_samples)

    def _counts(
        self, model: nn.Module, x: Tensor, n: int, generators: Sequence[Generator]
    ) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """How often each class (N, C) comes out among `n` noisy copies of each example."""
        if len(generators) != len(x):
            raise RequestError(f"smoothing needs a generator for each of the {len(x)} examples, got {len(generators)}")
        draws = min(n, self.batch_size)
        together = self.batch_size // draws
        rows = []
        with evaluating(model), torch.no_grad():
            for start in range(0, len(x), together):
                note(f"image {start} of {len(x)}")
                images = x[start : start + together]
                own = [_Noise(each, images) for each in generators[start : start + together]]
                parts = [self._count(model, images, min(draws, n - done), own) for done in range(0, n, draws)]
                rows.append(torch.stack(parts).sum(0))
        return torch.cat(rows).cpu().numpy()

    def _count(self, model: nn.Module, x: Tensor, draws: int, streams: Sequence[_Noise]) -> Tensor:
        """The same for as many copies as the model takes at once."""
        noise = torch.stack([stream.take(draws) for stream in streams])
        logits = logits_of(model, (x.unsqueeze(1) + self.sigma * noise).flatten(0, 1))
        if not logits.isfinite().all():
            raise RequestError("the model returns logits that are not finite (NaN or infinity) on noisy images")
        return functional.one_hot(logits.argmax(1), logits.shape[1]).view(len(x), draws, -1).sum(1)


class _Noise:
    """One example's Gaussian noise, copy after copy: the same however many copies are taken at a time."""

    def __init__(self, generator: Generator, like: Tensor) -> None:
        self._generator, self._like = generator, like[:0]
        self._left = self._like

    def take(self, count: int) -> Tensor:
        """The next `count` copies (count, ...)."""
        parts, known = [self._left], len(self._left)
        # Always as many together: what a generator gives depends on how much is asked for at once.
        while known < count:
            shape = (_BLOCK, *self._like.shape[1:])
            parts.append(
                torch.randn(shape, generator=self._generator, device=self._like.device, dtype=self._like.dtype)
            )
            known += _BLOCK
        drawn = torch.cat(parts)
        self._left = drawn[count:].clone()
        return drawn[:count]


def lower_confidence_bound(
    counts: np.ndarray[tuple[int], np.dtype[np.int64]], n: int, alpha: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The one-sided Clopper-Pearson bound: a probability that is exceeded with confidence 1 - `alpha`.

    Args:
        counts: successes (N,), each 0 to `n`.
        n: trials.
        alpha: how probable it is, at most, that the true probability lies below.
    """
    from scipy.stats import beta  # slow to import, and most commands certify nothing

    return np.where(counts > 0, beta.ppf(alpha, np.maximum(counts, 1), n - counts + 1), 0.0)
