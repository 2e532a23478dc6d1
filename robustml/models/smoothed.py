"""A smoothed classifier as a differentiable model, for attacks on it.

Salman et al., "Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers", NeurIPS 2019,
arXiv:1906.04584, section 2.2 (SmoothAdv): a soft version of the smoothed classifier of Cohen et al. 2019, estimated
from a few noises that stay the same from step to step, as in the authors' code.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from robustml.errors import RequestError


class SmoothedModel(nn.Module):
    """The logarithm of the mean softmax of `model` over Gaussian noise around each image.

    The noises depend on `seed` alone and are the same for every example and every call, so that the model is
    deterministic and one batch gives what several do. The noisy images are not clipped.

    Args:
        model: images (N, ...) to logits (N, C).
        sigma: standard deviation of the noise, in the unit of the images.
        samples: noises an image; a call runs the model on N x `samples` images at once.
        seed: of the noises.

    Raises:
        RequestError: `sigma` is not above 0, or `samples` below 1.
    """

    def __init__(self, model: nn.Module, sigma: float, samples: int = 16, seed: int = 0) -> None:
        super().__init__()
        if not sigma > 0 or samples < 1:
            raise RequestError(f"smoothing needs sigma > 0 and samples >= 1, got sigma={sigma}, samples={samples}")
        self.model = model
        self.sigma = sigma
        self.samples = samples
        self.seed = seed

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, ...) in [0, 1] to log-probabilities (N, C)."""
        generator = Generator(device=x.device).manual_seed(self.seed)
        noise = torch.randn(self.samples, *x.shape[1:], generator=generator, device=x.device, dtype=x.dtype)
        logits: Tensor = self.model((x.unsqueeze(1) + self.sigma * noise).flatten(0, 1))
        log_probabilities = logits.float().log_softmax(1).view(len(x), self.samples, -1)
        return log_probabilities.logsumexp(1) - math.log(self.samples)
