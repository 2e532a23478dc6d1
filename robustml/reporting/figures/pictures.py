"""Test images beside their attacked versions, with what was changed and what the model made of each."""

from __future__ import annotations

import base64
import io
import math
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from robustml.errors import printable
from robustml.reporting.figures.look import BLUE, FONTS, GREY, INK, VERMILLION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robustml.results import Examples

__all__ = ["magnification", "picture_grid"]

SIZE, GAP, LEFT = 92, 16, 104
MOST = 8


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


def picture_grid(examples: Examples, most: int = MOST) -> str:
    """One column an example: the image, the perturbation (grey is no change), the attacked image, both predictions.

    Args:
        examples: images (K, C, H, W) in [0, 1]; drawn are the first `most`.
        most: how many columns.

    Returns:
        An SVG element with embedded PNG pictures, or "" where the examples are not images.
    """
    if not examples.images:
        return ""
    count = min(most, len(examples.y))
    factor = magnification(examples)
    x, x_adv = _float(examples.x), _float(examples.x_adv)
    tops = (26, 26 + SIZE + 44, 26 + 2 * SIZE + 62)
    width, height = LEFT + count * (SIZE + GAP) - GAP + 2, tops[2] + SIZE + 44
    parts = [
        _text(0, 16, "true class", GREY, middle=False),
        _row_title(tops[0], "image", "clean", ""),
        _row_title(tops[1], f"change \N{MULTIPLICATION SIGN}{factor}" if factor > 1 else "change", "grey: none", ""),
        _row_title(tops[2], "attacked", printable(examples.attack), ""),
    ]
    for place in range(count):
        left = LEFT + place * (SIZE + GAP)
        middle = left + SIZE / 2
        true = int(examples.y[place])
        parts.append(_text(middle, 16, examples.name(true), GREY))
        change = 0.5 + factor * (x_adv[place] - x[place])
        for top, picture in zip(tops, (x[place], change, x_adv[place]), strict=True):
            parts.append(_picture(picture, left, top))
        for top, prediction, confidence in (
            (tops[0], int(examples.prediction[place]), float(examples.confidence[place])),
            (tops[2], int(examples.adversarial_prediction[place]), float(examples.adversarial_confidence[place])),
        ):
            right = prediction == true
            color, sign = (BLUE, "✓") if right else (VERMILLION, "✗")
            parts.append(_text(middle, top + SIZE + 16, f"{sign} {examples.name(prediction)}", color, bold=True))
            if math.isfinite(confidence):
                parts.append(_text(middle, top + SIZE + 31, f"{100 * confidence:.0f}% sure", GREY))
    description = f"{count} test images, the change that the attack made to each, and the predictions before and after"
    return (
        f'<svg role="img" aria-label="{description}" xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" font-family="{escape(FONTS)}" font-size="12">'
        f"{''.join(parts)}</svg>"
    )


def _float(images: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(images, dtype=np.float64)


def _row_title(top: float, title: str, *lines: str) -> str:
    parts = [_text(0, top + SIZE / 2 - 4, title, INK, bold=True, middle=False)]
    for place, line in enumerate(lines):
        if line:
            parts.append(_text(0, top + SIZE / 2 + 11 + 14 * place, line, GREY, middle=False))
    return "".join(parts)


def _text(x: float, y: float, text: str, color: str, bold: bool = False, middle: bool = True) -> str:
    text = printable(text)
    longest = 13 if bold else 15
    # What does not fit over a picture is read by pointing at it.
    title = f"<title>{escape(text)}</title>" if len(text) > longest else ""
    text = text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
    anchor = ' text-anchor="middle"' if middle else ""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{color}"{anchor}{weight}>{title}{escape(text)}</text>'


def _picture(picture: NDArray[np.float64], left: float, top: float) -> str:
    """An image (C, H, W) as a PNG, its pixels enlarged whole so that no viewer smooths them."""
    from PIL import Image

    channels = picture if picture.shape[0] == 3 else picture.mean(axis=0, keepdims=True)
    pixels = np.clip(np.nan_to_num(channels, nan=0.5), 0.0, 1.0)
    bytes_ = np.rint(pixels * 255).astype(np.uint8).transpose(1, 2, 0)
    enlarge = max(1, math.ceil(2 * SIZE / max(bytes_.shape[:2])))
    bytes_ = bytes_.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    image = Image.fromarray(bytes_ if bytes_.shape[2] == 3 else bytes_[:, :, 0])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<image x="{left:g}" y="{top:g}" width="{SIZE}" height="{SIZE}" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/>'
        f'<rect x="{left:g}" y="{top:g}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#d5dae0"/>'
    )
