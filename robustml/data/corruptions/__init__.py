"""The fifteen common corruptions of Hendrycks and Dietterich, at five severities: our own generation.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (ICLR 2019,
arXiv:1903.12261). The images are made here, from their published severity tables; they are *not* the published files
(CIFAR-10-C, ImageNet-C), so that figures are of the same kind as published ones but do not compare digit by digit.

Every corruption is `(x, severity, generator) -> x`: images (N, C, H, W) in [0, 1], grey or colour, of at least 8 x 8
pixels, in and out. Each image has its own draw, from the generator's device (the global one by default).

Deviations that hold for all: images stay floats (the files hold bytes), grey images are allowed, and so is any size.
Up to 32 pixels on the longer side the table of CIFAR-10-C holds, in its pixels; above, that of ImageNet-C, with lengths
scaled by side / 224. Each module names the deviations of its own.
"""

from robustml.data.corruptions.severity import SEVERITIES, Corruption
from robustml.data.corruptions.table import CORRUPTIONS

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption"]
