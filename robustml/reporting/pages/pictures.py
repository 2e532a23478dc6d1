"""Test images beside their attacked versions, with what was changed and what the model made of each."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustml.reporting.figures.look import FONTS, in_lines
from robustml.reporting.pages.template import render
from robustml.results import Examples

SIZE = 86
BESIDE = 4


def magnification(examples: Examples) -> int:
    """The round factor (1, 2, 5, 10, ...) that makes the largest change of a pixel fill at most half of the range."""
    largest = float(np.abs(_float(examples.x_adv) - _float(examples.x)).max())
    if largest <= 0:
        return 1
    # 1.001: a change of 0.05, held as a float, shall still be shown tenfold.
    bound = 0.5 / largest * 1.001
    exponent = max(0, math.floor(math.log10(bound))) if bound >= 1 else 0
    steps = (step * 10**exponent for step in (5, 2, 1))
    return max(1, next((step for step in steps if step <= bound), 1))


def picture_grid(examples: Examples, most: int = 8) -> str:
    """One column an example: the image, the perturbation (grey is no change), the attacked image, both predictions.

    Args:
        examples: images (K, C, H, W) in [0, 1]; drawn are the first `most`.
        most: how many columns; of more than four, half stand in an element of their own.

    Returns:
        SVG elements with embedded PNG pictures, or "" where the examples are not images.
    """
    if not examples.images:
        return ""
    count, factor = min(most, len(examples.y)), magnification(examples)
    x, x_adv = _float(examples.x), _float(examples.x_adv)

    def said(label: int, sure: float, true: int, by: str = "") -> tuple[bool, str]:
        words = f"{'✓' if label == true else '✗'} {examples.name(label)}"
        return label == true, _lines(words, f"{100 * sure:.0f}% sure" if math.isfinite(sure) else "", by)

    alike = len(set(examples.attacks)) < 2

    columns: list[dict[str, Any]] = []
    for place, true in enumerate(examples.y[:count].tolist()):
        clean = said(int(examples.prediction[place]), float(examples.confidence[place]), true)
        turned = said(int(examples.adversarial_prediction[place]), float(examples.adversarial_confidence[place]), true,
                      "" if alike else examples.attacks[place])  # fmt: skip
        pictures = [_png(one) for one in (x[place], 0.5 + factor * (x_adv[place] - x[place]), x_adv[place])]
        columns.append({"true": _lines(examples.name(true)), "pictures": pictures, "said": [clean, turned]})
    width = math.ceil(count / math.ceil(count / BESIDE)) if count else 1
    texts = zip(*((one["true"], one["said"][0][1], one["said"][1][1]) for one in columns), strict=True)
    common = {
        "size": SIZE,
        "factor": factor,
        "fonts": FONTS,
        "attack": _lines(examples.attack) if alike else "see below",
        "lines": [1 + max(text.count("\n") for text in row) for row in texts],
    }
    blocks = [columns[start : start + width] for start in range(0, count, width)]
    return "\n".join(render("pictures.svg.j2", columns=block, **common).strip() for block in blocks)


def _lines(*texts: str) -> str:
    """Texts below each other, each in as many lines as its column is wide."""
    return "\n".join(in_lines(text, 11) for text in texts if text)


def _float(images: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(images, dtype=np.float64)


def _png(picture: NDArray[np.float64]) -> str:
    """An image (C, H, W) as a PNG in base64, its pixels enlarged whole so that no viewer smooths them."""
    channels = picture if picture.shape[0] == 3 else picture.mean(axis=0, keepdims=True)
    pixels = np.clip(np.nan_to_num(channels, nan=0.5), 0.0, 1.0)
    bytes_ = np.rint(pixels * 255).astype(np.uint8).transpose(1, 2, 0)
    enlarge = max(1, math.ceil(2 * SIZE / max(bytes_.shape[:2])))
    bytes_ = bytes_.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(bytes_ if bytes_.shape[2] == 3 else bytes_[:, :, 0]).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
