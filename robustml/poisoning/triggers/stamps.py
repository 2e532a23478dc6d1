"""Triggers: small marks that are pasted over a picture, at a place of the attacker's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.poisoning.checks import check_number, check_pair, check_whole
from robustml.poisoning.triggers.trigger import picture_in

_CORNERS = {"upper_left": (0, 0), "upper_right": (0, 1), "lower_left": (1, 0), "lower_right": (1, 1)}


@dataclass(frozen=True)
class Square:
    """A filled square.

    Args:
        size: its side, in pixels; 1 is the paper's single pixel.
        value: its colour, in [0, 1]: one number, or one a channel.
        place: a corner (``"lower_right"`` ...), ``"centre"``, or [row, column] of its upper left pixel.
        margin: pixels between a corner and the square.

    Raises:
        RequestError: a size below 1, a value outside [0, 1], or another place; when called: the square does not fit
            into the picture.
    """

    size: int = 3
    value: float | Sequence[float] = 1.0
    place: str | Sequence[int] = "lower_right"
    margin: int = 0

    def __post_init__(self) -> None:
        check_whole(self.size, "trigger.size", "must be a whole number of pixels, size >= 1", 1)
        values = self.value if isinstance(self.value, list | tuple) else [self.value]
        if not values:
            raise RequestError("trigger.value needs one number or one a channel, in [0, 1]; got none")
        for value in values:
            check_number(value, "trigger.value", "is a colour in [0, 1]", 0, 1)
        _check_place(self.place, self.margin)

    def __call__(self, x: Tensor) -> Tensor:
        """The pictures (N, C, H, W) with the square on them."""
        colour = torch.as_tensor(self.value, dtype=x.dtype).flatten()
        if len(colour) not in (1, x.shape[1] if x.ndim == 4 else 1):
            raise RequestError(f"trigger.value needs one number or one a channel, got {len(colour)} numbers")
        return _pasted(x, colour.view(-1, 1, 1).expand(-1, self.size, self.size), self.place, self.margin)


@dataclass(frozen=True)
class Pattern:
    """A pattern of pixels, written row by row.

    Args:
        rows: numbers in [0, 1]; None leaves a pixel as it is. All rows have the same length.
        place: as in `Square`.
        margin: as in `Square`.

    Raises:
        RequestError: rows of different lengths, or a value outside [0, 1].
    """

    rows: Sequence[Sequence[float | None]] = ((1.0, None, 1.0), (None, 1.0, None), (1.0, None, 1.0))
    place: str | Sequence[int] = "lower_right"
    margin: int = 0

    def __post_init__(self) -> None:
        rows = self.rows if isinstance(self.rows, list | tuple) else ()
        if (
            not all(isinstance(row, list | tuple) for row in rows)
            or len({len(row) for row in rows}) != 1
            or not rows[0]
        ):
            raise RequestError("trigger.rows must be rows of one length, numbers in [0, 1] or null")
        for value in (value for row in rows for value in row if value is not None):
            check_number(value, "trigger.rows", "holds numbers in [0, 1] or null", 0, 1)
        if all(value is None for row in rows for value in row):
            raise RequestError("trigger.rows holds null alone, which marks nothing: give a number in [0, 1] somewhere")
        _check_place(self.place, self.margin)

    def __call__(self, x: Tensor) -> Tensor:
        """The pictures (N, C, H, W) with the pattern on them."""
        values = torch.tensor([[float("nan") if value is None else value for value in row] for row in self.rows])
        return _pasted(x, values.unsqueeze(0).to(x.dtype), self.place, self.margin)


@dataclass(frozen=True)
class Logo:
    """Any picture, scaled to a size and pasted on; where it is transparent the picture below shows through.

    Args:
        file: the picture.
        size: [height, width] in pixels.
        place: as in `Square`.
        margin: as in `Square`.

    Raises:
        RequestError: the file cannot be read as a picture.
    """

    file: str
    size: Sequence[int] = (8, 8)
    place: str | Sequence[int] = "lower_right"
    margin: int = 0

    def __post_init__(self) -> None:
        _check_place(self.place, self.margin)
        check_pair(self.size, "trigger.size", "is [height, width] in whole pixels, each at least 1", 1)
        if not bool((self._picture()[3] > 0).any()):
            raise RequestError(f"trigger.file={self.file!r} is transparent everywhere, so it would mark nothing")

    def __call__(self, x: Tensor) -> Tensor:
        """The pictures (N, C, H, W) with the logo on them; in grey where they are grey."""
        picture = self._picture()
        colour, alpha = picture[:3], picture[3:]
        if x.ndim == 4 and x.shape[1] == 1:
            colour = colour.mean(dim=0, keepdim=True)
        return _pasted(x, colour.to(x.dtype), self.place, self.margin, alpha.to(x.dtype))

    def _picture(self) -> Tensor:
        """(4, h, w): red, green, blue and opacity in [0, 1]."""
        return picture_in(self.file, int(self.size[0]), int(self.size[1]), "RGBA")


def _check_place(place: str | Sequence[int], margin: int) -> None:
    check_whole(margin, "trigger.margin", "is a whole number of pixels, margin >= 0", 0)
    if isinstance(place, str):
        if place != "centre" and place not in _CORNERS:
            raise RequestError(
                f"trigger.place={place!r} is unknown: name a corner ({', '.join(_CORNERS)}), centre, or [row, column]"
            )
        if margin and place == "centre":
            raise RequestError(f"trigger.margin={margin} goes with a corner; trigger.place=centre has none")
        return
    check_pair(place, "trigger.place", "as numbers is [row, column] of the upper left pixel, from 0 on", 0)
    if margin:
        raise RequestError(
            f"trigger.margin={margin} goes with a corner; trigger.place={list(place)} says where already"
        )


def _pasted(x: Tensor, mark: Tensor, place: str | Sequence[int], margin: int, opacity: Tensor | None = None) -> Tensor:
    """`x` (N, C, H, W) with `mark` (1 or C, h, w) over it; pixels of `mark` that are NaN are left out."""
    if x.ndim != 4:
        raise RequestError(f"a trigger is stamped on pictures (N, C, H, W), got inputs {tuple(x.shape)}")
    height, width = mark.shape[1:]
    rows, columns = x.shape[2:]
    if isinstance(place, str):
        if place == "centre":
            top, left = (rows - height) // 2, (columns - width) // 2
        else:
            low, right = _CORNERS[place]
            top = rows - margin - height if low else margin
            left = columns - margin - width if right else margin
    else:
        top, left = place
    if top < 0 or left < 0 or top + height > rows or left + width > columns:
        raise RequestError(f"a trigger of {height} x {width} pixels at {place} does not fit into {rows} x {columns}")
    result = x.clone()
    below = result[:, :, top : top + height, left : left + width]
    if opacity is not None:
        below.lerp_(mark.expand_as(below), opacity.expand_as(below))
    else:
        below.copy_(torch.where(mark.isnan(), below, mark))
    return result
