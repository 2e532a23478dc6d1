"""The charts of the reports; each function returns one SVG element as text, or "" where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from robustml.errors import printable
from robustml.reporting.figures.look import (
    BLUE,
    GREY,
    INK,
    PALE,
    VERMILLION,
    WIDTH,
    as_svg,
    band,
    describe,
    in_lines,
    new_axes,
    percent_axis,
    style,
    styled,
)
from robustml.reporting.formats import NOTHING, budget_text, eps_text, eps_texts, percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from robustml.results import ClassResult, Curve, ExtractionPoint, Rate

MOST_CLASSES = 20
ON_PALE = "#0d1720"  # stays as it is on a dark page: so do the cells

LOSSES = (("train/loss", "training", BLUE, "--"), ("val/loss", "validation", BLUE, "-"))
ACCURACIES = (
    ("train/clean_accuracy", "clean, training", BLUE, "--"),
    ("val/clean_accuracy", "clean, validation", BLUE, "-"),
    ("train/adversarial_accuracy", "adversarial, training", VERMILLION, "--"),
    ("val/adversarial_accuracy", "adversarial, validation", VERMILLION, "-"),
)


def training_curves(metrics: pd.DataFrame, best_epoch: int | None = None) -> str:
    """Loss, and clean against adversarial accuracy, over the epochs of training.

    Args:
        metrics: metrics.csv; curves whose column is missing or empty are left out.
        best_epoch: the epoch whose weights were kept; marked.
    """
    panels = []
    for name, lines in (("loss", LOSSES), ("accuracy", ACCURACIES)):
        present = [line for line in lines if line[0] in metrics.columns and metrics[line[0]].notna().any()]
        if not present:
            continue
        with styled():
            axes = new_axes(WIDTH, 330)
            for column, label, color, dashes in present:
                known = metrics[["epoch", column]].replace([np.inf, -np.inf], np.nan).dropna()
                marker = "o" if len(known) <= 12 else ""
                axes.plot(known["epoch"], known[column], dashes, color=color, label=label, marker=marker,
                          alpha=0.65 if dashes == "--" else 1.0)  # fmt: skip
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
            describe(axes, "epoch", name, 2, shares=name == "accuracy")
            if name == "loss" and axes.dataLim.y0 >= 0:
                axes.set_ylim(0, 1.05 * axes.dataLim.y1 or None)
            if best_epoch is not None and best_epoch in set(metrics["epoch"]):
                _mark(axes, float(best_epoch), f"kept: epoch {best_epoch}", at_top=name == "loss")
            panels.append(as_svg(axes, f"Training curves: {name} by epoch"))
    return "\n".join(panels)


def _mark(axes: Axes, x: float, text: str, at_top: bool, down: float = 0.0) -> None:
    """A dotted vertical line with its meaning beside it, on the side that has room, `down` axes heights lower."""
    axes.axvline(x, color=GREY, linestyle=":", linewidth=1.4, zorder=1)
    low, high = axes.get_xlim()
    left_half = x < (low + high) / 2
    axes.annotate(
        text, (x, 0.97 - down if at_top else 0.04), xycoords=("data", "axes fraction"), color=GREY,
        xytext=(5 if left_half else -5, 0), textcoords="offset points",
        ha="left" if left_half else "right", va="top" if at_top else "bottom",
    )  # fmt: skip


def accuracy_curve(
    curves: Sequence[tuple[str, Curve]], train_eps: Sequence[float] = (), norm: str = "", what: str = "budget: eps"
) -> str:
    """Robust accuracy against the budget of the attacker, with bands of the 95% intervals.

    Args:
        curves: a label and a curve for each line.
        train_eps: budgets of training, each marked by a vertical line.
        norm: norm of the budget, for the label of the axis.
        what: the axis.
    """
    lines = []
    for label, curve in curves:
        points = sorted(curve.points, key=lambda point: point.eps)
        rates = [(point.eps, point.robust_accuracy) for point in points]
        known = [(eps, rate) for eps, rate in rates if rate.value is not None]
        if known:
            lines.append((label, known))
    if not lines:
        return ""
    ticks = sorted({eps for _, known in lines for eps, _ in known})
    with styled():
        axes = new_axes(WIDTH, 340)
        for place, (label, known) in enumerate(lines):
            budgets, found = zip(*known, strict=True)
            band(axes, budgets, found, 0.16 if len(lines) < 5 else 0.09, label=printable(label), **style(place))
        span = max(ticks) - min(ticks) or 1.0
        axes.set_xlim(min(ticks) - 0.02 * span, max(ticks) + 0.02 * span)
        shown = _apart(ticks, 0.13 * span)
        axes.set_xticks(shown, eps_texts(shown))
        within = f" ({budget_text(norm)})" if norm else ""
        describe(axes, f"{what}{within}", "robust accuracy", 2 if len(lines) > 1 else 0)
        marked = [eps for eps in sorted(set(train_eps)) if min(ticks) < eps <= max(ticks)]
        for place, eps in enumerate(marked if len(marked) <= 4 else ()):
            _mark(axes, eps, f"training threat {eps_text(eps)}", at_top=True, down=0.06 * place)
        return as_svg(axes, "Robust accuracy against eps for " + ", ".join(label for label, _ in lines))


def _apart(ticks: Sequence[float], gap: float) -> list[float]:
    """Those ticks whose labels do not touch; the last is always among them."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick - kept[-1] >= gap:
            kept.append(tick)
    if ticks and kept[-1] != ticks[-1]:
        kept[-1] = ticks[-1]
    return kept


def accuracy_bars(rows: Sequence[tuple[str, Rate, Rate | None]]) -> str:
    """Clean accuracy as a pale bar, robust accuracy as a dark one within it, for each row.

    Args:
        rows: label, clean and robust accuracy; rows without examples keep their place, without a bar.
    """
    if not rows:
        return ""
    found = [(place, robust) for place, (_, _, robust) in enumerate(rows) if robust is not None]
    drawn = [(place, robust) for place, robust in found if robust.value is not None]
    with styled():
        deepest = max(in_lines(label, 16).count("\n") for label, *_ in rows)
        axes = new_axes(WIDTH, 74 + (30 + 17 * max(0, deepest - 1)) * len(rows))
        places = range(len(rows))
        axes.barh(places, [clean.value or 0.0 for _, clean, _ in rows], height=0.72, color=PALE)
        values = np.array([robust.value for _, robust in drawn], dtype=float)
        reach = np.abs(np.array([robust.ci95 for _, robust in drawn], dtype=float).reshape(-1, 2).T - values)
        axes.barh(
            [place for place, _ in drawn], values, height=0.40, color=BLUE, xerr=reach, zorder=3,
            error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5},
        )  # fmt: skip
        for place, (_, clean, robust) in enumerate(rows):
            text = "no examples" if clean.value is None else f"{100 * clean.value:.1f}%"
            if robust is not None and robust.value is not None:
                text += f" → {100 * robust.value:.1f}%"
            axes.text(1.035, place, text, va="center")
        axes.set_yticks(places, [in_lines(label, 16) for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        percent_axis(axes, "x")
        axes.set_xlim(0, 1.55)
        axes.spines["bottom"].set_bounds(0, 1)
        axes.set_xlabel("accuracy, with its 95% interval:\npale is clean, dark the worst case", loc="left")
        return as_svg(axes, "Clean and worst-case accuracy of each row, as in the table")


def class_bars(per_class: Sequence[ClassResult]) -> str:
    """Clean and worst-case accuracy of each class; of many classes, the 20 that hold up worst."""
    rows = list(per_class)
    if len(rows) > MOST_CLASSES:
        known = [row for row in rows if row.robust_accuracy.value is not None]
        rows = sorted(known, key=lambda row: row.robust_accuracy.value or 0.0)[:MOST_CLASSES]
    return accuracy_bars([(row.name, row.clean_accuracy, row.robust_accuracy) for row in rows])


def heat_map(values: pd.DataFrame, norm: str = "", *, title: str = "") -> str:
    """Robust accuracy by budget of training (rows) and budget of the test (columns); or fractions by two names.

    Args:
        values: fractions; the index holds the training eps, the columns the test eps; NaN where unknown.
        norm: of both.
        title: what the fractions are, where index and columns are names.
    """
    if values.empty:
        return ""
    matrix = values.to_numpy(dtype=float)
    rows, columns = matrix.shape
    # One hue from pale to deep blue: more is darker, in print and for every eye.
    colors = LinearSegmentedColormap.from_list("blues", ["#f4f8fb", "#9cc7e3", "#2f8ac4", "#004e7c"])
    with styled():
        axes = new_axes(min(WIDTH, 150 + 76 * columns), (96 if columns <= 8 else 130) + 40 * rows)
        axes.imshow(np.ma.masked_invalid(matrix), cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        crowded = columns > 8
        for (row, column), value in np.ndenumerate(matrix):
            text = NOTHING if np.isnan(value) else f"{100 * value:.{0 if crowded else 1}f}"
            shade = INK if np.isnan(value) else "white" if value > 0.55 else ON_PALE
            axes.text(column, row, text, ha="center", va="center", color=shade)
        across, down = (
            [in_lines(str(name).replace("_", " "), 12) for name in names] if title else eps_texts([*map(float, names)])
            for names in (values.columns, values.index)
        )
        axes.set_xticks(range(columns), across, rotation=60 if crowded else 0)
        axes.set_yticks(range(rows), down)
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(visible=False)
        axes.grid(which="minor", color="white", linewidth=2.5)
        axes.tick_params(which="minor", length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if title:
            return as_svg(axes, title)
        describe(axes, f"eps in the test{f' ({budget_text(norm)})' if norm else ''}", "eps in training", shares=False)
        return as_svg(axes, "Robust accuracy in percent by eps in training and eps in the test")


def queries_curve(curve: Sequence[ExtractionPoint]) -> str:
    """Fidelity and accuracy of the copy against the number of queries; "" for fewer than two points."""
    if len(curve) < 2:
        return ""
    points = sorted(curve, key=lambda point: point.queries)
    queries = [point.queries for point in points]
    with styled():
        axes = new_axes(WIDTH, 360)
        band(axes, queries, [point.fidelity for point in points], label="agrees with the victim (fidelity)", **style(0))
        band(axes, queries, [point.accuracy for point in points], label="is right (accuracy)", **style(1))
        axes.set_xscale("log")
        axes.set_xticks(queries, [f"{count:,}" for count in queries])
        axes.minorticks_off()
        describe(axes, "queries answered", "share of the test set", 2)
        last = percent(points[-1].fidelity.value)
        return as_svg(axes, f"Fidelity and accuracy of the copy by number of queries, up to {last} fidelity")
