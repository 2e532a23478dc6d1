"""Records before and after poisoning, side by side, with what was changed: a picture to look at before believing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from robustml.errors import printable
from robustml.files import replacing
from robustml.reporting.figures.look import INK, VERMILLION, box, draw_picture, new_figure, styled

_CELL, _LEFT, _TOP = 96, 104, 44


def write_poison_grid(
    clean: NDArray[Any],
    poisoned: NDArray[Any],
    labels: Sequence[str],
    new_labels: Sequence[str],
    path: Path,
    most: int = 8,
) -> Path:
    """One column a record: the clean picture, the poisoned one, and the difference, magnified around grey.

    Above stands the label, and below it the new one where it differs. A frame marks a change that is confined to
    a small part of the picture.

    Args:
        clean: pictures (K, C, H, W), uint8 in 0..255 or floats in [0, 1], with one or three channels.
        poisoned: the same records afterwards.
        labels: their K labels before, as names.
        new_labels: their K labels afterwards.
        path: the PNG to write.
        most: how many columns; the first records are drawn.

    Returns:
        `path`.

    Raises:
        ValueError: no pictures, or shapes or counts that differ.
    """
    if clean.ndim != 4 or clean.shape[1] not in (1, 3) or not len(clean):
        raise ValueError(f"expected pictures (K, 1 or 3, H, W), at least one, got {clean.shape}")
    if clean.shape != poisoned.shape or not len(clean) == len(labels) == len(new_labels):
        raise ValueError(
            f"expected as many clean and poisoned pictures and labels, got {clean.shape}, {poisoned.shape}, "
            f"{len(labels)} and {len(new_labels)}"
        )
    count = min(most, len(clean))
    before, after = _unit(clean[:count]), _unit(poisoned[:count])
    factor = _magnification(before, after)
    rows = (before, after, 0.5 + factor * (after - before))
    titles = ("clean", "poisoned", f"difference \N{MULTIPLICATION SIGN} {factor}" if factor > 1 else "difference")
    height, width = clean.shape[2:]
    cell_width = _CELL * width / height
    with styled():
        figure = new_figure(_LEFT + count * (cell_width + 8), _TOP + 3 * (_CELL + 8))
        figure.set_facecolor("white")
        grid = figure.subplots(3, count, squeeze=False)
        for row, (pictures, title) in enumerate(zip(rows, titles, strict=True)):
            for column in range(count):
                axes = grid[row][column]
                draw_picture(axes, pictures[column])
                if row == 2:
                    _frame(axes, after[column] - before[column])
                if row == 0:
                    changed = labels[column] != new_labels[column]
                    text = (
                        f"{printable(labels[column])}\n→ {printable(new_labels[column])}"
                        if changed
                        else printable(labels[column])
                    )
                    axes.set_title(text, fontsize=9, loc="center", color=VERMILLION if changed else INK)
            grid[row][0].set_ylabel(title, rotation=0, ha="right", va="center", labelpad=8, color=INK)
        with replacing(path) as file:
            # without metadata, which holds matplotlib's version: the same records give the same file
            figure.savefig(file, format="png", dpi=144, metadata={"Software": None})
    return path


def _frame(axes: Axes, change: NDArray[np.float64]) -> None:
    """A frame around the pixels that a change (C, H, W) touches, if they lie within a quarter of the picture."""
    pixels = np.abs(change).max(axis=0)
    rows, columns = np.nonzero(pixels.max(axis=1))[0], np.nonzero(pixels.max(axis=0))[0]
    if not len(rows):
        return
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    if 4 * height * width <= pixels.size:
        box(axes, rows[0] - 1.5, columns[0] - 1.5, height + 2, width + 2)  # a pixel off, so that it hides nothing


def _unit(pictures: NDArray[Any]) -> NDArray[np.float64]:
    scale = 255 if pictures.dtype == np.uint8 else 1
    return np.asarray(pictures, dtype=np.float64) / scale


def _magnification(before: NDArray[np.float64], after: NDArray[np.float64]) -> int:
    """The largest of 1, 2, 5, 10, 20, 50 that keeps 99 of 100 changed values within the range around grey."""
    changes = np.abs(after - before)
    changes = changes[changes > 0]
    if not len(changes):
        return 1
    largest = float(np.quantile(changes, 0.99))
    # a hair more, for 0.05 held as a float shall still be shown tenfold
    return max(factor for factor in (1, 2, 5, 10, 20, 50) if factor == 1 or factor * largest <= 0.5 * 1.001)
