"""Weather: snow, frost, fog and brightness.

Hendrycks and Dietterich 2019 (arXiv:1903.12261). Deviations: frost is laid on as in the paper, but its texture is
procedural (ice needles at 60 degrees on a plasma fractal), where theirs is cut out of six photographs; flakes of snow
are enlarged at exact positions, where theirs are rounded to whole pixels. The paper brightens in the HSV colour space;
there, a new value at the same hue and saturation is the old colour times a number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustml.data.corruptions.blur import smooth, trail, zoomed
from robustml.data.corruptions.severity import Source, at_severity, length_scale, normal, uniform

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_ICE = (0.86, 0.94, 1.0)


def snow(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Whiten the image and let streaks of snow fall over it."""
    mean, deviation, size, threshold, radius, sigma, kept = at_severity(
        x,
        severity,
        (
            (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    )
    scale = length_scale(x)
    count, _, height, width = x.shape
    layer = normal(x, (count, 1, height, width), generator).mul_(deviation).add_(mean)
    layer = zoomed(layer, max(1.0, size * scale))
    flakes = torch.where(layer < threshold, 0, layer).clamp_(0, 1)
    streaks = trail(flakes, radius * scale, sigma * scale, uniform(x, (count,), generator, -135, -45))
    pale = torch.maximum(x, _grey(x) * 1.5 + 0.5)
    return (kept * x + (1 - kept) * pale + streaks + streaks.flip(2, 3)).clamp_(0, 1)


def frost(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Lay a pane of ice over the image."""
    kept, ice = at_severity(
        x,
        severity,
        ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    )
    return (kept * x + ice * _ice(x, generator)).clamp_(0, 1)


def fog(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Add a plasma fractal, and darken the sum so that the brightest pixel keeps its value."""
    amount, decay = at_severity(
        x,
        severity,
        ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
        ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    )
    brightest = x.amax(dim=(1, 2, 3), keepdim=True)
    return ((x + amount * _plasma(x, decay, generator)) * brightest / (brightest + amount)).clamp_(0, 1)


def brightness(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Raise the value (the largest channel) of every pixel, up to 1, and keep hue and saturation."""
    raised = at_severity(x, severity, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    value = x.amax(dim=1, keepdim=True)
    target = (value + raised).clamp_max(1)
    # black has no colour to keep: it becomes grey
    return torch.where(value > 0, x * (target / value.clamp_min(torch.finfo(x.dtype).tiny)), target).clamp_(0, 1)


def _grey(x: Tensor) -> Tensor:
    """The luminance (N, 1, H, W) of images."""
    return x if x.shape[1] == 1 else (x * torch.tensor(_LUMA).to(x).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def _ice(x: Tensor, generator: Source) -> Tensor:
    """A pane of ice for each image: (N, C, H, W) in [0, 1], bluish where the images have colour."""
    count, channels, height, width = x.shape
    size = max(height, width) / 32  # the texture is the same at any size: needles of a third of the side
    tilt = uniform(x, (count,), generator, 0, 60)
    needles = torch.zeros(count, 1, height, width).to(x)
    for axis in (0.0, 60.0, 120.0):
        seeds = (uniform(x, needles.shape, generator) < 0.05 / size**2).to(x.dtype)
        for way in (0.0, 180.0):
            grown = smooth(trail(seeds, 5 * size, 3 * size, tilt + axis + way), 0.3 * size)
            needles = torch.maximum(needles, grown / grown.amax(dim=(2, 3), keepdim=True).clamp_min(1e-6))
    patches = _plasma(x, 1.6, generator)
    pane = (0.25 + 0.5 * patches + (0.15 + 0.45 * patches) * needles).clamp_(0, 1)
    tint = _ICE if channels == 3 else (sum(_ICE) / 3,)
    return pane * torch.tensor(tint).to(x).view(1, channels, 1, 1)


def _plasma(x: Tensor, decay: float, generator: Source) -> Tensor:
    """A fractal (N, 1, H, W) from 0 to 1 for each image, by midpoint displacement on a torus (Fournier 1982).

    The displacement falls by the square of `decay` each time that the spacing halves, as in the published code, which
    uses its amplitude twice.
    """
    count, _, height, width = x.shape
    size = 1 << (max(height, width) - 1).bit_length()
    plane = torch.zeros(count, size, size).to(x)
    amplitude, spacing = 1.0, size
    while spacing >= 2:
        half = spacing // 2
        corners = plane[:, ::spacing, ::spacing]
        above = corners + corners.roll(-1, 2)
        middles = (above + above.roll(-1, 1)) / 4 + uniform(x, above.shape, generator, -amplitude, amplitude)
        across = above + middles + middles.roll(1, 1)
        down = corners + corners.roll(-1, 1) + middles + middles.roll(1, 2)
        plane[:, half::spacing, half::spacing] = middles
        plane[:, ::spacing, half::spacing] = across / 4 + uniform(x, across.shape, generator, -amplitude, amplitude)
        plane[:, half::spacing, ::spacing] = down / 4 + uniform(x, down.shape, generator, -amplitude, amplitude)
        amplitude, spacing = amplitude / decay**2, half
    plane -= plane.amin(dim=(1, 2), keepdim=True)
    plane /= plane.amax(dim=(1, 2), keepdim=True)
    return plane[:, None, :height, :width]
