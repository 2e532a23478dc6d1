"""Brightness and contrast.

Hendrycks and Dietterich 2019 (arXiv:1903.12261), without deviations of its own. The paper brightens in the HSV colour
space; there, a new value at the same hue and saturation is the old colour times a number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustml.data.corruptions.severity import Source, at_severity


def brightness(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Raise the value (the largest channel) of every pixel, up to 1, and keep hue and saturation."""
    raised = at_severity(x, severity, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    value = x.amax(dim=1, keepdim=True)
    target = (value + raised).clamp_max(1)
    # black has no colour to keep: it becomes grey
    return torch.where(value > 0, x * (target / value.clamp_min(torch.finfo(x.dtype).tiny)), target).clamp_(0, 1)


def contrast(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Pull every pixel towards the mean of its image and channel."""
    kept = at_severity(x, severity, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean).mul_(kept).add_(mean).clamp_(0, 1)
