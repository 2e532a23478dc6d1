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
    VERMILLION,
    as_svg,
    band,
    legend_above,
    new_figure,
    percent_axis,
    style,
    styled,
)
from robustml.reporting.formats import NOTHING, eps_text, eps_texts, norm_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from robustml.results import ClassResult, Curve, Rate

WIDTH = 960
MOST_CLASSES = 20

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
    panels: list[tuple[str, list[tuple[str, str, str, str]]]] = []
    for name, candidates in (("loss", LOSSES), ("accuracy", ACCURACIES)):
        present = [line for line in candidates if line[0] in metrics.columns and metrics[line[0]].notna().any()]
        if present:
            panels.append((name, present))
    if not panels:
        return ""
    with styled():
        figure = new_figure(WIDTH, 350)
        for place, (name, lines) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), place + 1)
            for column, label, color, dashes in lines:
                known = metrics[["epoch", column]].replace([np.inf, -np.inf], np.nan).dropna()
                marker = "o" if len(known) <= 12 else ""
                axes.plot(known["epoch"], known[column], dashes, color=color, label=label, marker=marker,
                          alpha=0.65 if dashes == "--" else 1.0)  # fmt: skip
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
            if name == "accuracy":
                percent_axis(axes)
                axes.set_ylabel("accuracy")
            else:
                axes.set_ylabel("loss")
                if axes.dataLim.y0 >= 0:
                    axes.set_ylim(0, 1.05 * axes.dataLim.y1 or None)
            legend_above(axes, 2)
            if best_epoch is not None and best_epoch in set(metrics["epoch"]):
                _mark(axes, float(best_epoch), f"kept: epoch {best_epoch}", at_top=name == "loss")
        return as_svg(figure, "Training curves: " + " and ".join(name for name, _ in panels) + " by epoch")


def _mark(axes: Axes, x: float, text: str, at_top: bool, down: float = 0.0) -> None:
    """A dotted vertical line with its meaning beside it, on the side that has room, `down` axes heights lower."""
    axes.axvline(x, color=GREY, linestyle=":", linewidth=1.4, zorder=1)
    low, high = axes.get_xlim()
    left_half = x < (low + high) / 2
    axes.annotate(
        text, (x, 0.97 - down if at_top else 0.04), xycoords=("data", "axes fraction"), color=GREY, fontsize=9.5,
        xytext=(5 if left_half else -5, 0), textcoords="offset points",
        ha="left" if left_half else "right", va="top" if at_top else "bottom",
    )  # fmt: skip


def accuracy_curve(curves: Sequence[tuple[str, Curve]], train_eps: Sequence[float] = (), norm: str = "") -> str:
    """Robust accuracy against the budget of the attacker, with bands of the 95% intervals.

    Args:
        curves: a label and a curve for each line.
        train_eps: budgets of training, each marked by a vertical line.
        norm: norm of the budget, for the label of the axis.
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
        rows = (len(lines) + 1) // 2 if len(lines) > 1 else 0
        figure = new_figure(WIDTH, 360 + 20 * rows)
        axes = figure.add_subplot()
        for place, (label, known) in enumerate(lines):
            budgets, found = zip(*known, strict=True)
            band(axes, budgets, found, 0.16 if len(lines) < 5 else 0.09, label=printable(label), **style(place))
        span = max(ticks) - min(ticks) or 1.0
        axes.set_xlim(min(ticks) - 0.02 * span, max(ticks) + 0.02 * span)
        shown = _apart(ticks, 0.055 * span)
        axes.set_xticks(shown, eps_texts(shown))
        axes.set_xlabel(f"budget of the attacker: eps{f' ({norm_text(norm)}, pixels in 0 to 1)' if norm else ''}")
        axes.set_ylabel("robust accuracy")
        percent_axis(axes)
        marked = [eps for eps in sorted(set(train_eps)) if min(ticks) < eps <= max(ticks)]
        for place, eps in enumerate(marked if len(marked) <= 4 else ()):
            _mark(axes, eps, f"training threat {eps_text(eps)}", at_top=True, down=0.055 * place)
        if len(lines) > 1:
            legend_above(axes, 2)
        return as_svg(figure, "Robust accuracy against eps for " + ", ".join(label for label, _ in lines))


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
    with styled():
        figure = new_figure(WIDTH, 74 + 30 * len(rows))
        axes = figure.add_subplot()
        for place, (_, clean, robust) in enumerate(rows):
            text = "no examples"
            if clean.value is not None:
                axes.barh(place, clean.value, height=0.72, color="#b9d6ea", label="clean" if place == 0 else None)
                text = f"{100 * clean.value:.1f}%"
            if robust is not None and robust.value is not None:
                low, high = robust.ci95
                reach = [[robust.value - low], [high - robust.value]]
                axes.barh(
                    place, robust.value, height=0.40, color=BLUE, xerr=reach, label="_", zorder=3,
                    error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5},
                )  # fmt: skip
                text += f" → {100 * robust.value:.1f}%"
            axes.text(1.035, place, text, va="center", fontsize=10)
        axes.set_yticks(range(len(rows)), [printable(_clip(label)) for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        percent_axis(axes, "x")
        axes.set_xlim(0, 1.2)
        axes.spines["bottom"].set_bounds(0, 1)
        axes.set_xlabel("accuracy: pale bar clean, dark bar worst case with its 95% interval", loc="left")
        return as_svg(figure, "Clean and worst-case accuracy of each row, as in the table")


def _clip(text: str) -> str:
    return text if len(text) <= 34 else text[:33] + "…"


def class_bars(per_class: Sequence[ClassResult]) -> str:
    """Clean and worst-case accuracy of each class; of many classes, the 20 that hold up worst."""
    rows = list(per_class)
    if len(rows) > MOST_CLASSES:
        known = [row for row in rows if row.robust_accuracy.value is not None]
        rows = sorted(known, key=lambda row: row.robust_accuracy.value or 0.0)[:MOST_CLASSES]
    return accuracy_bars([(row.name, row.clean_accuracy, row.robust_accuracy) for row in rows])


def heat_map(values: pd.DataFrame) -> str:
    """Robust accuracy by budget of training (rows) and budget of the test (columns).

    Args:
        values: fractions; the index holds the training eps, the columns the test eps; NaN where unknown.
    """
    if values.empty:
        return ""
    matrix = values.to_numpy(dtype=float)
    rows, columns = matrix.shape
    # One hue from pale to deep blue: more is darker, in print and for every eye.
    colors = LinearSegmentedColormap.from_list("blues", ["#f4f8fb", "#9cc7e3", "#2f8ac4", "#004e7c"])
    with styled():
        figure = new_figure(min(WIDTH, 150 + 76 * columns), 96 + 40 * rows)
        axes = figure.add_subplot()
        axes.imshow(np.ma.masked_invalid(matrix), cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        for (row, column), value in np.ndenumerate(matrix):
            text = NOTHING if np.isnan(value) else f"{100 * value:.1f}"
            shade = "white" if value > 0.55 else INK
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=10.5)
        axes.set_xticks(range(columns), eps_texts([float(eps) for eps in values.columns]))
        axes.set_yticks(range(rows), eps_texts([float(eps) for eps in values.index]))
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(visible=False)
        axes.grid(which="minor", color="white", linewidth=2.5)
        axes.tick_params(which="minor", length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("eps in the test")
        axes.set_ylabel("eps in training")
        return as_svg(figure, "Robust accuracy in percent by eps in training and eps in the test")
