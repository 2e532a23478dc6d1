"""Noise: Gaussian, shot (Poisson) and impulse (salt and pepper).

Hendrycks and Dietterich 2019 (arXiv:1903.12261), without deviations of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustml.data.corruptions.severity import Source, at_severity, normal, uniform
from robustml.draws import Draws


def gaussian_noise(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Add normal noise to every value, as low light does."""
    deviation = at_severity(x, severity, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
    return normal(x, x.shape, generator).mul_(deviation).add_(x).clamp_(0, 1)


def shot_noise(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Count photons: every value becomes a Poisson draw, of mean and variance in proportion to it."""
    photons = at_severity(x, severity, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
    expected = (x * photons).clamp_min_(0)
    if isinstance(generator, Draws):
        return generator.poisson(expected).div_(photons).clamp_(0, 1)
    if generator is not None:
        expected = expected.to(generator.device)
    return torch.poisson(expected, generator=generator).to(x.device).div_(photons).clamp_(0, 1)


def impulse_noise(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Set a share of all values, channel by channel, to 0 or 1 with equal chance, as bit errors do."""
    share = at_severity(x, severity, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
    draw = uniform(x, x.shape, generator)
    return torch.where(draw < share, (draw < share / 2).to(x.dtype), x)
