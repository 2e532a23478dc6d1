"""The look of all figures: colours, sizes, and how a matplotlib figure becomes SVG for a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import NDArray

from robustml.errors import printable
from robustml.results import Rate

# Okabe and Ito's colours, which remain distinct under all common kinds of colour blindness; yellow is left out
# because it vanishes on white.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INK, GREY = "#E69F00", "#56B4E9", "#1f2933", "#6b7785"
PALE, EDGE, GRID = "#b9d6ea", "#c3cad2", "#e8ebef"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
# In CSS pixels. A page scales what is wider than it: on a phone of 400 px, letters of SMALL points still measure 11 px.
WIDTH, SMALL = 460, 10.5
# What a page gives each colour, dark or light, where it differs (pages/style.css).
ROLES = {
    INK: "ink",
    GREY: "soft",
    BLUE: "blue",
    SKY: "sky",
    VERMILLION: "fall",
    PALE: "pale",
    EDGE: "edge",
    GRID: "track",
    "#000000": "ink",
}

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# Any: the stubs of matplotlib want the keys as literals.
STYLE: Any = {
    "font.size": SMALL,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.edgecolor": EDGE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "text.color": INK,
    # Class names are text: "$" in one must not start a formula.
    "text.parse_math": False,
    # Text stays text: it can be searched and read aloud, and the page can give it its own font.
    "svg.fonttype": "none",
    # Ids from content, not from chance: the same run gives the same page, byte for byte.
    "svg.hashsalt": "robustml",
}


@dataclass(frozen=True)
class Chart:
    """SVG elements, beside each other where there is room ("" draws nothing), and what is said below them."""

    svg: str
    caption: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.svg)

    @property
    def inline(self) -> Markup:
        """The element for a page, in its colours; HTML needs no namespaces nor prefixes, so no address is left."""
        svg = re.sub(r"<svg [^>]*>", lambda tag: re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", tag[0]), self.svg)
        for color, role in ROLES.items():
            svg = re.sub(rf'\b(fill|stroke)(: |="){color}\b', rf"\1\2var(--{role})", svg, flags=re.IGNORECASE)
        svg = svg.replace("stroke: #ffffff", "stroke: var(--card)")  # lines between cells
        return Markup(svg.replace("xlink:href=", "href="))  # drawn by us, every text in it escaped


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of the reports, and leave matplotlib's settings as they were."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The font that measures the text may lack letters that the reader's own font has.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in CSS pixels, apart from pyplot's global state."""
    return Figure(figsize=(width / 96, height / 96), layout="constrained", facecolor="none")


def new_axes(width: float, height: float) -> Axes:
    """The axes of a figure that has no others."""
    return new_figure(width, height).add_subplot()


def style(place: int) -> dict[str, Any]:
    """Colour, marker and dashes of the line number `place`: a line has more than its colour to be known by."""
    return {
        "color": PALETTE[place % len(PALETTE)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place // len(PALETTE) % len(DASHES)],
    }


def percent_axis(axes: Axes, axis: str = "y") -> None:
    """An axis of fractions, written as percent and ending a little beyond 0 and 100%."""
    chosen = axes.yaxis if axis == "y" else axes.xaxis
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    chosen.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1.0]))
    (axes.set_ylim if axis == "y" else axes.set_xlim)(-0.02, 1.03)


def describe(axes: Axes, x: str, y: str, columns: int = 0, *, shares: bool = True) -> None:
    """Name both axes, write shares as percent, and put a legend above, in so many columns at most."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if shares:
        percent_axis(axes)
    if columns:
        legend_above(axes, columns)


def legend_above(axes: Axes, columns: int) -> None:
    """A legend over the axes, where it cannot cover data."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        labels = [in_lines(name, 48) for name in names]
        longest = 50 + 7.2 * min(48, max(map(len, names)))  # CSS pixels, with its line
        columns = max(1, min(columns, int(WIDTH / longest)))
        figure, lines = axes.get_figure(root=True), sum(1 + label.count("\n") for label in labels)
        assert figure is not None  # new_figure
        figure.set_figheight(figure.get_figheight() + 0.18 * (lines / columns - 1))
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2, handlelength=2.2,
            ncols=columns, columnspacing=1.6, borderpad=0.3,
        )  # fmt: skip


def as_svg(drawn: Figure | Axes, description: str) -> str:
    """A figure as an SVG element that needs nothing else.

    Args:
        drawn: within `styled()`; of axes the whole figure.
        description: what the figure shows, for those who cannot see it; plain text.
    """
    buffer = io.StringIO()
    # `savefig` would draw it twice, once for the layout, which drawing makes anyway. Without metadata: it holds a date,
    # and addresses of vocabularies.
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # type: ignore[no-untyped-call]  # matplotlib has none
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", lambda found: found[1] + FONTS, text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(printable(description))}" ', 1)


def in_lines(name: str, width: int) -> str:
    """A name in as many lines as it needs: none is cut."""
    return "\n".join(wrap(printable(name), width)) or name


def draw_picture(axes: Axes, picture: NDArray[Any]) -> None:
    """A picture (C, H, W) in [0, 1] in a thin frame, every pixel a square; of other than three channels their mean."""
    pixels = np.clip(picture.transpose(1, 2, 0) if len(picture) == 3 else picture.mean(axis=0), 0, 1)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="none")
    framed(axes)


def framed(axes: Axes) -> None:
    """Neither ticks nor grid, but a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_edgecolor(GREY)
        spine.set_linewidth(0.5)


def box(axes: Axes, row: float, column: float, height: float, width: float) -> None:
    """A frame around pixels of a picture, which may lie half outside of it."""
    frame = Rectangle((column, row), width, height, fill=False, edgecolor=VERMILLION, linewidth=1.5, clip_on=False)
    axes.add_patch(frame)


def band(axes: Axes, places: Sequence[float], rates: Sequence[Rate], strength: float = 0.16, **look: Any) -> None:
    """A line through rates, and a band of their 95% intervals around it."""
    low, high = zip(*(rate.ci95 for rate in rates), strict=True)
    axes.fill_between(places, low, high, color=look["color"], alpha=strength, linewidth=0)
    axes.plot(places, [rate.value or 0.0 for rate in rates], **look)
