"""Where patches of a class turn other pictures into it: heat maps, and the marks in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustml.reporting.figures.look import (
    SMALL,
    WIDTH,
    as_svg,
    box,
    draw_picture,
    framed,
    in_lines,
    new_figure,
    percent_axis,
    styled,
)
from robustml.reporting.formats import percent
from robustml.results import ShortcutSuspect


@dataclass(frozen=True, eq=False)
class Suspect:
    """The most suspect place in the pictures of one class, and a pair of pictures to show it on.

    Attributes:
        figures: what shortcuts.json holds of it.
        donor: a picture (C, H, W) in [0, 1] of the class.
        host: one of another class, that the patch was put on.
        host_name: of that other class.
    """

    figures: ShortcutSuspect
    donor: NDArray[np.float32]
    host: NDArray[np.float32]
    host_name: str

    def heat_map(self) -> NDArray[np.float64]:
        """Each pixel (H, W) with the largest share of any patch that covers it."""
        heat = np.zeros(self.host.shape[1:])
        for row, column, share in self.figures.flip_rates:
            part = heat[row : row + self.figures.size, column : column + self.figures.size]
            np.maximum(part, share, out=part)
        return heat

    def grafted(self) -> NDArray[np.float32]:
        """`host` with the patch of `donor`."""
        rows, columns = (slice(start, start + self.figures.size) for start in self.figures.place)
        picture = self.host.copy()
        picture[:, rows, columns] = self.donor[:, rows, columns]
        return picture


def suspects_grid(suspects: Sequence[Suspect]) -> str:
    """A row a class: heat map, a picture of the class, one of another, and that one with the patch."""
    if not suspects:
        return ""
    with styled():
        names = [in_lines(f"{each.host_name} with the patch", 11) for each in suspects]
        names += [in_lines(each.figures.class_name, 11) for each in suspects]
        drawing = new_figure(WIDTH, 60 + (122 + 18 * max(1 + name.count("\n") for name in names)) * len(suspects))
        grid = drawing.subplots(len(suspects), 4, squeeze=False)
        for row, each in zip(grid, suspects, strict=True):
            shown = row[0].imshow(each.heat_map(), cmap="Blues", vmin=0, vmax=1, interpolation="none")
            figures = each.figures
            row[0].set_title(f"turned: {percent(figures.flip_rate.value)}", fontsize=SMALL)
            for axes, picture, title in (
                (row[1], each.donor, figures.class_name),
                (row[2], each.host, each.host_name),
                (row[3], each.grafted(), f"{each.host_name} with the patch"),
            ):
                draw_picture(axes, picture)
                axes.set_title(in_lines(title, 11), fontsize=SMALL)
            framed(row[0])
            for axes in (row[0], row[1], row[3]):
                box(axes, figures.place[0] - 0.5, figures.place[1] - 0.5, figures.size, figures.size)
        scale = drawing.colorbar(shown, ax=grid, location="bottom", shrink=0.6, aspect=24)
        scale.set_label("pictures turned")
        percent_axis(scale.ax, "x")
        scale.ax.set_xlim(0, 1)
        said = ", ".join(each.figures.class_name for each in suspects)
        return as_svg(drawing, f"Where patches of {said} turn other pictures into their class")
