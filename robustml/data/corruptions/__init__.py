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

from robustml.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from robustml.data.corruptions.digital import elastic_transform, jpeg_compression, pixelate
from robustml.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from robustml.data.corruptions.severity import SEVERITIES, Corruption
from robustml.data.corruptions.table import CORRUPTIONS
from robustml.data.corruptions.tone import brightness, contrast
from robustml.data.corruptions.weather import fog, frost, snow

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "Corruption",
    "brightness",
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "frost",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "shot_noise",
    "snow",
    "zoom_blur",
]
