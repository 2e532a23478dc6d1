"""The path between two models: clean accuracy, attack success and robust accuracy from the one to the other."""

from __future__ import annotations

from robustml.reporting.figures.look import (
    GREY,
    WIDTH,
    as_svg,
    band,
    describe,
    new_axes,
    percent_axis,
    style,
    styled,
)
from robustml.results import Connection


def path_chart(connection: Connection) -> str:
    """The figures of the curve over t, and the clean accuracy of the straight line; the t that is kept is marked."""
    with styled():
        axes = new_axes(WIDTH, 360)
        lines = (
            ("clean accuracy", "clean_accuracy", style(0)),
            ("attack success", "attack_success_rate", style(1)),
            ("robust accuracy", "robust_accuracy", style(2)),
        )
        for label, name, look in lines:
            found = [(point.t, getattr(point, name)) for point in connection.curve]
            known = [(t, rate) for t, rate in found if rate is not None and rate.value is not None]
            if known:
                places, rates = zip(*known, strict=True)
                band(axes, places, rates, label=label, **look)
        straight = [(point.t, point.clean_accuracy.value) for point in connection.line]
        if straight:
            axes.plot(*zip(*straight, strict=True), ":", color=GREY, label="clean accuracy, straight line")
        axes.axvline(connection.chosen, color=GREY, linestyle="--", linewidth=1.2, zorder=1)
        percent_axis(axes)
        describe(axes, f"t, from the model (0) to the other (1); kept: {connection.chosen:g}", "share", 2)
        return as_svg(axes, "Clean accuracy, attack success and robust accuracy along the path between two models")
