"""What a search for shortcuts found: a table for the terminal, and a page with heat maps and the marks in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustml.files import write_text
from robustml.reporting.formats import percent
from robustml.reporting.tables import rate_cell
from robustml.results import Rate

__all__ = ["Suspect", "suspects_table", "write_shortcut_page"]

# Classes that are drawn; the table names them all.
_MOST_DRAWN = 6


@dataclass(frozen=True, eq=False)
class Suspect:
    """The most suspect place in the pictures of one class, and a pair of pictures to show it on.

    Attributes:
        class_name: of the pictures whose patches were tried on others.
        place: [row, column] of the patch's upper left pixel.
        size: its side in pixels.
        flip_rate: the share of other classes' pictures that are read as this class with it.
        excess: that share less the one of the class's median place.
        flip_rates: that share for every [row, column] looked at.
        donor: a picture (C, H, W) in [0, 1] of the class.
        host: one of another class, that the patch was put on.
        host_name: of that other class.
    """

    class_name: str
    place: tuple[int, int]
    size: int
    flip_rate: Rate
    excess: float
    flip_rates: Mapping[tuple[int, int], float]
    donor: NDArray[np.float32]
    host: NDArray[np.float32]
    host_name: str

    def to_dict(self, threshold: float) -> dict[str, Any]:
        """The figures, as plain values; `found` where the excess reaches the threshold."""
        return {
            "class": self.class_name,
            "found": self.excess >= threshold,
            "place": list(self.place),
            "size": self.size,
            "flip_rate": self.flip_rate.model_dump(mode="json"),
            "excess": self.excess,
            "flip_rates": [[row, column, share] for (row, column), share in self.flip_rates.items()],
        }

    def heat_map(self) -> NDArray[np.float64]:
        """Each pixel (H, W) with the largest share of any patch that covers it."""
        heat = np.zeros(self.host.shape[1:])
        for (row, column), share in self.flip_rates.items():
            part = heat[row : row + self.size, column : column + self.size]
            np.maximum(part, share, out=part)
        return heat

    def grafted(self) -> NDArray[np.float32]:
        """`host` with the patch of `donor`."""
        rows, columns = (slice(start, start + self.size) for start in self.place)
        picture = self.host.copy()
        picture[:, rows, columns] = self.donor[:, rows, columns]
        return picture


def suspects_table(suspects: Sequence[Suspect], threshold: float) -> str:
    """What was found, and each class's most suspect place, as plain text."""
    rows = [("class", "place", "turned", "beyond median", "")]
    rows += [
        (
            each.class_name,
            _place(each),
            percent(each.flip_rate.value),
            percent(each.excess),
            "found" if each.excess >= threshold else "",
        )
        for each in suspects
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"  {row[0]:<{widths[0]}}   {row[1]:<{widths[1]}}   {row[2]:>{widths[2]}}   {row[3]:>{widths[3]}}   {row[4]}"
        for row in rows
    ]
    return "\n".join([_verdict(suspects, threshold), *(line.rstrip() for line in lines)])


def _verdict(suspects: Sequence[Suspect], threshold: float) -> str:
    """One sentence on what was found."""
    found = [each for each in suspects if each.excess >= threshold]
    if not found:
        return f"no shortcut found: no place lies {100 * threshold:.3g} points above the median place of its class"
    parts = [
        f"a patch at {_place(each)} turns {percent(each.flip_rate.value)} of {each.flip_rate.n:,} other pictures into "
        f"{each.class_name}"
        for each in found
    ]
    return f"{len(found)} found: {'; '.join(parts)}"


def _place(suspect: Suspect) -> str:
    return f"[{suspect.place[0]}, {suspect.place[1]}]"


def write_shortcut_page(
    searches: Mapping[str, Sequence[Suspect]], threshold: float, data_name: str, run: str, path: Path
) -> Path:
    """Write the page.

    Args:
        searches: name of a model to its suspects, the worst first.
        threshold: the excess from which on a place counts as found.
        data_name: of the set.
        run: which run was searched.
        path: the file to write.

    Returns:
        `path`.
    """
    from robustml.reporting.page import document, figure, section

    heading = f'<header><p class="kicker">Search for shortcuts · {escape(data_name)}</p><h1>{escape(run)}</h1></header>'
    body = [heading]
    for name, suspects in searches.items():
        body.append(
            section(
                name.capitalize(),
                f'<p class="lead">{escape(_sentence(suspects, threshold))}</p>',
                _table(suspects, threshold),
                figure(
                    _drawing(suspects[:_MOST_DRAWN]),
                    "Heat map: each pixel shows the largest share of other pictures that any patch covering it turned "
                    "into the class. The box is the most suspect place.",
                ),
            )
        )
    note = (
        "Each patch of a training picture of a class was put on the same place of a picture of another class, which "
        "the model had read rightly. True features turn some of them too; a place counts as found where its share lies "
        f"{100 * threshold:.3g} points above that of the class's median place. Shares are with 95% intervals. A mark "
        "that has no fixed place, or is larger than the patch, is not found this way."
    )
    body.append(f'<p class="note">{escape(note)}</p>')
    return write_text(path, document(f"{run} · shortcuts", body))


def _sentence(suspects: Sequence[Suspect], threshold: float) -> str:
    verdict = _verdict(suspects, threshold)
    return f"{verdict[0].upper()}{verdict[1:]}."


def _table(suspects: Sequence[Suspect], threshold: float) -> str:
    rows = []
    for each in suspects:
        mark = ' <span class="mark">found</span>' if each.excess >= threshold else ""
        rows.append(
            f'<tr><th scope="row">{escape(each.class_name)}{mark}</th><td>{_place(each)}</td>'
            f"{rate_cell(each.flip_rate)}<td class=number>{percent(each.excess)}</td></tr>"
        )
    head = "<tr><th>class</th><th>row, column</th><th class=number>pictures turned</th>"
    head += "<th class=number>beyond the median place</th></tr>"
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _drawing(suspects: Sequence[Suspect]) -> str:
    """A row a class: heat map, a picture of the class, one of another, and that one with the patch."""
    if not suspects:
        return ""
    from robustml.reporting.figures import as_svg, new_figure, percent_axis, styled

    with styled():
        drawing = new_figure(860, 40 + 180 * len(suspects))
        grid = drawing.subplots(len(suspects), 4, squeeze=False)
        for row, each in zip(grid, suspects, strict=True):
            shown = row[0].imshow(each.heat_map(), cmap="Blues", vmin=0, vmax=1, interpolation="none")
            row[0].set_ylabel(each.class_name, fontweight="bold")
            row[0].set_title(f"turned: {percent(each.flip_rate.value)}", fontsize=10)
            for axes, picture, title in (
                (row[1], each.donor, each.class_name),
                (row[2], each.host, each.host_name),
                (row[3], each.grafted(), f"{each.host_name} with the patch"),
            ):
                _show(axes, picture)
                axes.set_title(title, fontsize=10)
            for axes in row:
                _bare(axes)
            for axes in (row[0], row[1], row[3]):
                _box(axes, each)
        scale = drawing.colorbar(shown, ax=grid[:, 0], location="left", shrink=0.8, aspect=14 * len(suspects))
        scale.set_label("pictures turned")
        percent_axis(scale.ax)
        scale.ax.set_ylim(0, 1)
        names = ", ".join(each.class_name for each in suspects)
        return as_svg(drawing, f"Where patches of {names} turn other pictures into their class")


def _show(axes: Any, picture: NDArray[np.float32]) -> None:
    """A picture (C, H, W) in [0, 1], every pixel a square; of more or fewer than three channels their mean."""
    pixels = picture.transpose(1, 2, 0) if len(picture) == 3 else picture.mean(axis=0)
    axes.imshow(np.clip(pixels, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="none")


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)


def _box(axes: Any, suspect: Suspect) -> None:
    """A frame around the most suspect place."""
    from matplotlib.patches import Rectangle

    from robustml.reporting.figures import VERMILLION

    corner = (suspect.place[1] - 0.5, suspect.place[0] - 0.5)
    axes.add_patch(
        Rectangle(corner, suspect.size, suspect.size, fill=False, edgecolor=VERMILLION, linewidth=2, clip_on=False)
    )
