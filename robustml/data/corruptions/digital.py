"""Digital: contrast, elastic distortion, pixelation and JPEG compression.

Hendrycks and Dietterich 2019 (arXiv:1903.12261). Deviations: the elastic distortion applies its random affine map and
its displacement field in one bilinear sampling, where theirs interpolates twice, and its lengths are fractions of the
shorter side, which theirs writes as 244 for images of 224 pixels; pixels are averaged as floats.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from robustml.data.corruptions.blur import smooth
from robustml.data.corruptions.severity import Source, at_severity, uniform


def contrast(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Pull every pixel towards the mean of its image and channel."""
    kept = at_severity(x, severity, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    mean = x.mean(dim=(2, 3), keepdim=True)
    return (x - mean).mul_(kept).add_(mean).clamp_(0, 1)


def elastic_transform(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Stretch and shear each image, and push its pixels about in a smooth field; mirrored beyond the border."""
    strength, smoothness, shift = at_severity(
        x,
        severity,
        ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    )
    count, _, height, width = x.shape
    side = min(height, width)
    field = uniform(x, (count, 2, height, width), generator, -1, 1)
    field = smooth(field, smoothness * side, truncate=3.0) * (strength * side)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows, columns]).to(x) + field
    flat = torch.cat([places, torch.ones_like(places[:, :1])], dim=1).flatten(2)
    sources = (_affine(x, shift * side, generator) @ flat).view(count, 2, height, width)
    # grid_sample counts from -1 to 1, columns first
    sizes = torch.tensor([height - 1, width - 1]).to(x).view(1, 2, 1, 1)
    grid = (2 * sources / sizes - 1).flip(1).permute(0, 2, 3, 1)
    return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=True).clamp_(0, 1)


def pixelate(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Shrink by averaging blocks, and enlarge by repeating pixels."""
    share = at_severity(x, severity, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
    rows, columns = (_blocks(size, int(size * share)).to(x) for size in x.shape[2:])
    return (rows @ x @ columns.T).clamp_(0, 1)


def jpeg_compression(x: Tensor, severity: int, generator: Source = None) -> Tensor:
    """Write each image as a JPEG file of low quality, and read it again."""
    quality = at_severity(x, severity, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
    images = (x * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    decoded = [_through_jpeg(image, quality) for image in images]
    return torch.from_numpy(np.stack(decoded)).to(x).div_(255).view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


def _affine(x: Tensor, shift: float, generator: Source) -> Tensor:
    """The maps (N, 2, 3) from (row, column, 1) to where it came from as three corners moved by up to `shift` pixels."""
    height, width = x.shape[2:]
    reach = min(height, width) // 3
    corners = torch.tensor([[1, 1], [1, -1], [-1, -1]]) * reach + torch.tensor([height // 2, width // 2])
    corners = corners.to(x).expand(len(x), 3, 2)
    moved = corners + uniform(x, corners.shape, generator, -shift, shift)
    homogeneous = torch.cat([moved, torch.ones_like(moved[:, :, :1])], dim=2)
    solved: Tensor = torch.linalg.solve(homogeneous, corners)
    return solved.transpose(1, 2)


def _blocks(size: int, blocks: int) -> Tensor:
    """The (size, size) matrix that replaces each pixel of a line by the mean of its block, one of `blocks`."""
    block = ((torch.arange(size) + 0.5) * blocks / size).long()
    member = functional.one_hot(block, blocks).float()
    return member @ (member / member.sum(dim=0)).T


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """A byte image (H, W, C) after compression."""
    with io.BytesIO() as stream:
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(stream, "JPEG", quality=quality)
        with Image.open(stream) as read:
            return np.asarray(read)
