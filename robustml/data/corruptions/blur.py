"""Blur: defocus, frosted glass, motion and zoom.

Hendrycks and Dietterich 2019 (arXiv:1903.12261). Deviations: glass blur draws each pixel anew from those around it, all
at once, which is about what the published exchange of NumPy views comes to; zoom blur samples each zoomed copy at exact
positions, where theirs rounds the copy's size to whole pixels; borders are mirrored in all but motion blur, which
repeats the border pixel as ImageMagick does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from robustml.data.augment import mirrored
from robustml.data.corruptions.severity import Source, at_severity, length_scale, uniform


def defocus_blur(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Average over a disk with a soft edge, as a lens out of focus does."""
    radius, softness = at_severity(
        x,
        severity,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
    )
    scale = length_scale(x)
    if scale < 1:
        softness = max(softness, 0.5)  # a disk scaled to less than a pixel blurs by its soft edge alone
    kernel = _disk(radius * scale, softness).to(x)
    reach = len(kernel) // 2
    rows, columns = (mirrored(torch.arange(-reach, size + reach), size).to(x.device) for size in x.shape[2:])
    padded = x.index_select(2, rows).index_select(3, columns)
    return functional.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view(x.shape).clamp_(0, 1)


def glass_blur(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Smooth, replace every pixel by a near one, and smooth again, as frosted glass does."""
    sigma, distance, rounds = at_severity(
        x,
        severity,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    )
    scale = length_scale(x)
    distance = math.ceil(distance * scale)
    shattered = smooth(x, sigma * scale)
    for _ in range(rounds):
        shattered = _shattered(shattered, distance, generator)
    return smooth(shattered, sigma * scale).clamp_(0, 1)


def motion_blur(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Smear each image along its own direction, up to 45 degrees off the horizontal."""
    radius, sigma = at_severity(
        x,
        severity,
        ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
        ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
    )
    scale = length_scale(x)
    return trail(x, radius * scale, sigma * scale, uniform(x, x.shape[:1], generator, -45, 45)).clamp_(0, 1)


def zoom_blur(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Average the image with copies zoomed in further and further, as a camera that moves towards its object does."""
    copies, step = at_severity(
        x,
        severity,
        ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
        ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
    )
    total = x.clone()
    for copy in range(copies):
        total += zoomed(x, 1 + copy * step)
    return total.div_(copies + 1).clamp_(0, 1)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle of images (N, C, H, W), enlarged `factor` times (at least 1) to their own size, bilinear."""
    theta = torch.tensor([[1 / factor, 0.0, 0.0], [0.0, 1 / factor, 0.0]]).to(x)
    grid = functional.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=True)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def smooth(x: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Gaussian blur of images (N, C, H, W), borders mirrored; `sigma` pixels, cut off after `truncate` of them."""
    rows, columns = (_smoothing(size, sigma, truncate).to(x) for size in x.shape[2:])
    return rows @ x @ columns.T


def trail(x: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """Motion blur as ImageMagick has it: half a Gaussian along a line, the border pixel repeated.

    Args:
        x: images (N, C, H, W).
        radius: half of the line's length in pixels.
        sigma: deviation of the Gaussian in pixels.
        degrees: (N,), where each image's line points: 0 right, 90 down.
    """
    count, _, height, width = x.shape
    steps = torch.arange(2 * math.ceil(radius) + 1, device=x.device)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    radians = torch.deg2rad(degrees)[:, None]
    down, right = ((steps * share - 0.5).ceil().long() for share in (radians.sin(), radians.cos()))
    total = torch.zeros_like(x)
    for step, weight in enumerate(weights.tolist()):
        rows = (torch.arange(height, device=x.device) + down[:, step, None]).clamp_(0, height - 1)
        columns = (torch.arange(width, device=x.device) + right[:, step, None]).clamp_(0, width - 1)
        moved = x.gather(2, rows.view(count, 1, height, 1).expand_as(x))
        total.add_(moved.gather(3, columns.view(count, 1, 1, width).expand_as(x)), alpha=weight)
    return total


def _smoothing(size: int, sigma: float, truncate: float) -> Tensor:
    """The (size, size) matrix that smooths a line: the mirrored border folded into it, it fits any `sigma`."""
    reach = int(truncate * sigma + 0.5)
    if reach == 0:
        return torch.eye(size)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    sources = mirrored(torch.arange(size)[:, None] + offsets, size)
    return torch.zeros(size, size).scatter_add_(1, sources, (weights / weights.sum()).expand(size, -1).contiguous())


def _disk(radius: float, softness: float) -> Tensor:
    """A disk of pixels (K, K), K odd, that sums to 1, its edge smoothed by a Gaussian of 3 or 5 pixels."""
    blur = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + blur
    squares = torch.arange(-reach, reach + 1) ** 2
    disk = (squares[:, None] + squares <= radius**2).float()
    edge = torch.exp(-0.5 * (torch.arange(-blur, blur + 1) / softness) ** 2)
    soft = functional.conv2d(disk[None, None], torch.outer(edge, edge)[None, None], padding=blur)[0, 0]
    return soft / soft.sum()


def _shattered(x: Tensor, distance: int, generator: Source) -> Tensor:
    """Each pixel of images (N, C, H, W) replaced by one of those around it."""
    count, _, height, width = x.shape
    # up or left by up to `distance`, down or right by one less: the published range
    moves = uniform(x, (count, 2, height, width), generator, -distance, distance).floor().long()
    rows = mirrored(torch.arange(height, device=x.device)[:, None] + moves[:, 0], height)
    columns = mirrored(torch.arange(width, device=x.device) + moves[:, 1], width)
    sources = (rows * width + columns).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, sources).view(x.shape)
