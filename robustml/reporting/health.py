"""The health of a training as its report shows it: FGSM against PGD, gradient alignment, and what was done about it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from robustml.reporting.figures import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    as_svg,
    legend_above,
    new_figure,
    percent_axis,
    styled,
)
from robustml.reporting.page import figure
from robustml.reporting.runs import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["draw_health", "health_curves", "health_parts", "mark_collapse"]

ACTIONS = {"warn": "warned", "stop": "stopped", "rollback": "rolled back"}
MOST_POINTS_WITH_MARKERS = 12


def health_parts(run: Run) -> str:
    """What was measured on training batches while training went on; "" where it was not."""
    if run.health is None:
        return ""
    return f"<p>{escape(health_sentence(run.health))}</p>" + figure(
        health_curves(run.health), "On one training batch each, in eval mode."
    )


def health_sentence(health: pd.DataFrame) -> str:
    """Whether single-step training collapsed, and what was done."""
    collapses = health[health["action"] != ""]
    text = f"{len(health)} measurements looked for catastrophic overfitting (FGSM withstood, a short PGD not)"
    if collapses.empty:
        return f"{text}; there was none."
    first = collapses.iloc[0]
    text += f"; the first was at step {first['step']:.0f}"
    steps = [f"{ACTIONS.get(str(name), name)} {count} time{'s' if count > 1 else ''}"
             for name, count in collapses["action"].value_counts(sort=False).items()]  # fmt: skip
    return f"{text}, and training was {', '.join(steps)}."


def health_curves(health: pd.DataFrame) -> str:
    """Accuracy under FGSM and PGD, and gradient alignment, over the steps of training; collapses are marked."""
    with styled():
        drawing = new_figure(960, 330)
        left, right = drawing.add_subplot(1, 2, 1), drawing.add_subplot(1, 2, 2)
        if "clean_accuracy" in health:
            _line(left, health, "clean_accuracy", "clean", color=GREY, linestyle="--")
        draw_health(left, right, health)
        left.set_ylabel("accuracy on a training batch")
        right.set_ylabel("gradient alignment")
        for axes in (left, right):
            axes.set_xlabel("step")
            for step in health.loc[health["action"] != "", "step"]:
                mark_collapse(axes, step)
        if (health["action"] != "").any():
            left.plot([], [], color=GREY, linestyle=":", label="collapse")
        legend_above(left, 4)
        legend_above(right, 1)
        return as_svg(drawing, "Accuracy under FGSM and under PGD, and gradient alignment, by step of training")


def draw_health(
    accuracy: Axes, alignment: Axes, health: pd.DataFrame, *, labelled: bool = True, linewidth: float = 2.0
) -> None:
    """Draw one training into two axes, which may hold others already.

    Args:
        accuracy: takes the accuracy under FGSM and under a short PGD.
        alignment: takes the gradient alignment.
        health: health.csv.
        labelled: whether the legend shall know its lines.
        linewidth: in points.
    """
    bottom = min(-0.02, alignment.get_ylim()[0], 1.05 * health["gradient_alignment"].min())
    _line(accuracy, health, "fgsm_accuracy", "FGSM" if labelled else "_", color=BLUE, linewidth=linewidth)
    _line(accuracy, health, "pgd_accuracy", "short PGD" if labelled else "_", color=VERMILLION, linewidth=linewidth)
    _line(alignment, health, "gradient_alignment", "mean cosine" if labelled else "_", color=INK, linewidth=linewidth)
    percent_axis(accuracy)
    alignment.set_ylim(bottom, 1.03)
    for axes in (accuracy, alignment):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def mark_collapse(axes: Axes, step: float) -> None:
    """A dotted line where a collapse was seen."""
    axes.axvline(step, color=GREY, linestyle=":", linewidth=1.4, zorder=1, label="_")


def _line(axes: Axes, health: pd.DataFrame, column: str, label: str, **look: Any) -> None:
    known = health[["step", column]].dropna()
    marker = "o" if len(known) <= MOST_POINTS_WITH_MARKERS else ""
    axes.plot(known["step"], known[column], label=label, marker=marker, **look)
