"""The health of a training: FGSM against PGD, gradient alignment, and what was done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from robustml.reporting.figures.look import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    WIDTH,
    as_svg,
    describe,
    in_lines,
    new_axes,
    new_figure,
    percent_axis,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BESIDE = 2
ACTIONS = {"warn": "warned", "stop": "stopped", "rollback": "rolled back"}
MOST_POINTS_WITH_MARKERS = 12


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
        accuracy, alignment = new_axes(WIDTH, 320), new_axes(WIDTH, 320)
        if "clean_accuracy" in health:
            _line(accuracy, health, "clean_accuracy", "clean", color=GREY, linestyle="--")
        _draw(accuracy, alignment, health)
        for axes in (accuracy, alignment):
            for step in health.loc[health["action"] != "", "step"]:
                _mark(axes, step)
        if (health["action"] != "").any():
            accuracy.plot([], [], color=GREY, linestyle=":", label="collapse")
        describe(accuracy, "step", "accuracy on a training batch", 2)
        describe(alignment, "step", "gradient alignment", 1, shares=False)
        return "\n".join(
            (
                as_svg(accuracy, "Accuracy under FGSM and under PGD by step of training"),
                as_svg(alignment, "Gradient alignment by step of training"),
            )
        )


def _draw(accuracy: Axes, alignment: Axes, health: pd.DataFrame, linewidth: float = 2.0) -> None:
    """Draw one training into two axes, which may hold others already: FGSM and a short PGD, and the alignment."""
    bottom = min(-0.02, alignment.get_ylim()[0], 1.05 * health["gradient_alignment"].min())
    _line(accuracy, health, "fgsm_accuracy", "FGSM", color=BLUE, linewidth=linewidth)
    _line(accuracy, health, "pgd_accuracy", "short PGD", color=VERMILLION, linewidth=linewidth)
    _line(alignment, health, "gradient_alignment", "mean cosine", color=INK, linewidth=linewidth)
    percent_axis(accuracy)
    alignment.set_ylim(bottom, 1.03)
    for axes in (accuracy, alignment):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _mark(axes: Axes, step: float) -> None:
    """A dotted line where a collapse was seen."""
    axes.axvline(step, color=GREY, linestyle=":", linewidth=1.4, zorder=1, label="_")


def _line(axes: Axes, health: pd.DataFrame, column: str, label: str, **look: Any) -> None:
    known = health[["step", column]].dropna()
    marker = "o" if len(known) <= MOST_POINTS_WITH_MARKERS else ""
    axes.plot(known["step"], known[column], label=label, marker=marker, **look)


def health_of_variants(health: Mapping[tuple[str, int], pd.DataFrame]) -> str:
    """FGSM and PGD accuracy above gradient alignment, over the steps of training; a column a variant.

    Args:
        health: health.csv by variant and seed. The first seed of a variant is drawn broad, the others thin; the first
            measurement of each that was not healthy is marked.

    Returns:
        An SVG element; "" without any.
    """
    variants = list(dict.fromkeys(variant for variant, _ in health))
    if not variants:
        return ""
    columns = min(BESIDE, len(variants))
    blocks = -(-len(variants) // BESIDE)
    highest = max(table[["fgsm_accuracy", "pgd_accuracy"]].max().max() for table in health.values())
    with styled():
        drawing = new_figure(WIDTH, 30 + 400 * blocks)
        axes = drawing.subplots(2 * blocks, columns, sharex=True, sharey="row", squeeze=False)
        for place in range(blocks * columns):
            block, column = divmod(place, columns)
            above, below = axes[2 * block][column], axes[2 * block + 1][column]
            if place >= len(variants):
                above.set_visible(False)
                below.set_visible(False)
                continue
            runs = {seed: table for (variant, seed), table in health.items() if variant == variants[place]}
            for order, table in enumerate(runs.values()):
                _draw(above, below, table, linewidth=0.7 if order else 1.8)
                for step in table.loc[table["healthy"] == 0, "step"].head(1):
                    _mark(above, step)
                    _mark(below, step)
            seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(map(str, runs))}"
            above.set_title(in_lines(f"{variants[place]}, {seeds}", 22))
            # Shared axes: small networks stay far below 100%, and all variants are seen on one scale.
            above.set_ylim(top=min(1.03, max(1.1 * highest, 0.3)))
            below.set_xlabel("step")
            below.tick_params(labelbottom=True)  # shared axes write their steps in the last row only
            if column == 0:
                above.set_ylabel("accuracy")
                below.set_ylabel("gradient alignment")
        handles = [
            Line2D([], [], color=BLUE, label="FGSM"),
            Line2D([], [], color=VERMILLION, label="short PGD"),
            Line2D([], [], color=INK, label="mean cosine"),
            Line2D([], [], color=GREY, linestyle=":", label="first collapse of a seed"),
        ]
        drawing.legend(handles=handles, loc="outside upper left", ncols=2)
        what = "Accuracy under FGSM and under PGD, and gradient alignment, by step of training: "
        return as_svg(drawing, what + ", ".join(variants))
