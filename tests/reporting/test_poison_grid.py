"""The picture of what a poison did: read back as pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustml.reporting.figures.look import VERMILLION
from robustml.reporting.figures.poison_grid import write_poison_grid


def pictures(count: int, channels: int = 3) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, channels, 8, 8)).astype(np.uint8)


def framed(path: Path) -> int:
    """How many pixels have the colour that frames and new labels are drawn in."""
    colour = np.array([int(VERMILLION[place : place + 2], 16) for place in (1, 3, 5)])
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - colour).max(axis=2) < 8).sum())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_change_is_framed_and_a_large_one_is_not(channels: int, tmp_path: Path) -> None:
    clean = pictures(1, channels)
    corner, whole = clean.copy(), 255 - clean
    corner[:, :, 6:, 6:] ^= 255
    names = ["a"]
    same = write_poison_grid(clean, clean, names, names, tmp_path / "new" / "same.png")
    small = write_poison_grid(clean, corner, names, names, tmp_path / "small.png")
    large = write_poison_grid(clean, whole, names, names, tmp_path / "large.png")
    assert framed(same) == framed(large) == 0
    assert framed(small) > 100
    assert framed(write_poison_grid(clean, whole, names, ["b"], tmp_path / "relabelled.png")) > 0


def test_one_column_a_record_up_to_the_most(tmp_path: Path) -> None:
    widths = []
    for count, most in ((1, 8), (2, 8), (3, 2)):
        clean = pictures(count)
        path = write_poison_grid(clean, clean, ["a"] * count, ["a"] * count, tmp_path / f"{count}.png", most)
        with Image.open(path) as image:
            widths.append(image.size[0])
    assert widths[0] < widths[1] == widths[2]


def test_the_same_records_give_the_same_file(tmp_path: Path) -> None:
    clean = pictures(2) / 255.0
    files = [write_poison_grid(clean, clean**2, ["a $b", "<c>"], ["a", "c"], tmp_path / f"{name}.png") for name in "12"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("clean", "poisoned", "labels", "message"),
    [
        (pictures(0), pictures(0), [], "at least one"),
        (pictures(2, 2), pictures(2, 2), ["a", "b"], "1 or 3"),
        (pictures(2), pictures(3), ["a", "b"], "as many"),
        (pictures(2), pictures(2), ["a"], "as many"),
    ],
)
def test_what_cannot_be_drawn(
    clean: np.ndarray, poisoned: np.ndarray, labels: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_poison_grid(clean, poisoned, labels, labels, tmp_path / "grid.png")
