"""Gaussian noise augmentation: the training that randomised smoothing needs.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, arXiv:1902.02918,
section 3.3. As there, the noisy images are not clipped to [0, 1]: the smoothed classifier sees such images too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.objectives.labels import accuracy
from robustml.types import LossOutput, Threat


@dataclass(frozen=True)
class GaussianNoise:
    """Cross-entropy on images with noise from N(0, sigma^2), drawn anew in every step from the global generator.

    Args:
        sigma: standard deviation of the noise, in the unit of the images; that of the smoothing to come.

    Raises:
        RequestError: `sigma` is negative.
    """

    sigma: float

    def __post_init__(self) -> None:
        """Refuse a deviation that is none."""
        if not self.sigma >= 0:
            raise RequestError(f"the deviation of Gaussian noise must be >= 0, got sigma={self.sigma}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Noisy images, not clipped, for `x` (N, ...)."""
        return x + self.sigma * torch.randn_like(x)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """Cross-entropy on the noisy `x_adv` (N, ...) with labels `y` (N,)."""
        logits = logits_of(model, x_adv)
        loss = functional.cross_entropy(logits.float(), y)
        return LossOutput(loss, logits, {"noisy_accuracy": accuracy(logits, y)})
