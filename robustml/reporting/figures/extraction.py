"""How good a copy is made of how many queries."""

from __future__ import annotations

from collections.abc import Sequence

from robustml.reporting.figures.look import as_svg, band, legend_above, new_figure, percent_axis, style, styled
from robustml.reporting.formats import percent
from robustml.results import ExtractionPoint


def queries_curve(curve: Sequence[ExtractionPoint]) -> str:
    """Fidelity and accuracy of the copy against the number of queries; "" for fewer than two points."""
    if len(curve) < 2:
        return ""
    points = sorted(curve, key=lambda point: point.queries)
    queries = [point.queries for point in points]
    with styled():
        drawing = new_figure(960, 380)
        axes = drawing.add_subplot()
        band(axes, queries, [point.fidelity for point in points], label="agrees with the victim (fidelity)", **style(0))
        band(axes, queries, [point.accuracy for point in points], label="is right (accuracy)", **style(1))
        axes.set_xscale("log")
        axes.set_xticks(queries, [f"{count:,}" for count in queries])
        axes.minorticks_off()
        axes.set_xlabel("queries answered")
        axes.set_ylabel("share of the test set")
        percent_axis(axes)
        legend_above(axes, 2)
        last = percent(points[-1].fidelity.value)
        return as_svg(drawing, f"Fidelity and accuracy of the copy by number of queries, up to {last} fidelity")
