"""A reproduction as plain text: ours beside the paper's, every seed by itself, and what is different here."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from robustml.reporting.formats import NOTHING, seconds_text
from robustml.reporting.paper import Paper, is_share
from robustml.reporting.reproduction import Comparison, EpochTable, Reproduction, SeedRun

__all__ = [
    "DEVICES",
    "comparison_cells",
    "cost_text",
    "epoch_cells",
    "figure_text",
    "papers_table",
    "reproduction_table",
    "run_cells",
    "sources",
    "summary",
]

WIDTH = 110
SHORTEST_TITLE = 24
DEVICES = {"cpu2": "2 CPU cores", "h200": "one H200", "many-gpu": "many GPUs"}
COMPARED = ("variant", "metric", "paper", "ours", "95% of n", "difference", "tolerance", "verdict")


def reproduction_table(reproduction: Reproduction) -> str:
    """Everything that a reader of the terminal should see, in lines without colour codes."""
    paper = reproduction.paper
    lines = [f"{paper.title}", f"{paper.citation} · fidelity: {paper.fidelity} · {cost_text(paper)}"]
    if reproduction.overrides:
        lines.append(f"with {' '.join(reproduction.overrides)}")
    lines += ["", _table([COMPARED, *(comparison_cells(row) for row in reproduction.comparisons)])]
    lines += textwrap.wrap(
        "figures in %, mean ± standard deviation over seeds; 95% of n: what other test examples of that number could "
        "have given; match: within tolerance, and the paper's figure lies in that interval",
        WIDTH,
    )
    lines += ["", _table(run_cells(reproduction.runs))]
    for table in reproduction.epochs:
        lines += ["", f"{table.variant} seed {table.seed}, epoch by epoch: {table.verdict}", _table(epoch_cells(table))]
    for heading, points in (
        ("deviations", paper.deviations),
        ("others", [f"{row.what}: {row.value} ({row.source})" for row in paper.third_party]),
        ("sources", sources(reproduction)),
    ):
        if points:
            lines += ["", f"{heading}:"]
            for point in points:
                lines += textwrap.wrap(f"- {point}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def summary(reproduction: Reproduction) -> str:
    """How it ended, in a sentence or three: what was met, what collapsed, and what nobody measured."""
    compared = [row for row in reproduction.comparisons if row.verdict not in ("no target", "not measured")]
    within = [row for row in compared if row.verdict in ("match", "within tolerance")]
    collapsed = [run for run in reproduction.runs if run.collapsed]
    parts = []
    if compared:
        parts.append(f"{len(within)} of {len(compared)} published figures were met within their tolerance.")
    elif not reproduction.unmeasured:
        parts.append("There is no verified published figure to compare with: the tables stand by themselves.")
    if collapsed:
        parts.append(f"{len(collapsed)} of {len(reproduction.runs)} runs lost their robustness in training.")
    if reproduction.unmeasured:
        parts.append(f"Not measured: {', '.join(reproduction.unmeasured)}.")
    return " ".join(parts)


def papers_table(papers: Sequence[Paper], width: int) -> str:
    """One line a paper: what it is, how close it is to the paper, and what it costs.

    Args:
        papers: in their order.
        width: of the terminal, in letters: titles are cut to fit it, but not below 24 letters.
    """
    rows = [
        (paper.id, paper.title, paper.fidelity, str(len(paper.seeds)), cost_text(paper), paper.status)
        for paper in papers
    ]
    lines = [("paper", "title", "fidelity", "seeds", "cost", "status"), *rows]
    widths = _widths(lines)
    room = max(SHORTEST_TITLE, width - (sum(widths) - widths[1]) - 2 * (len(widths) - 1))
    return _table([(row[0], textwrap.shorten(row[1], room, placeholder="…"), *row[2:]) for row in lines])


def cost_text(paper: Paper) -> str:
    """The cost class of one seed."""
    minutes = paper.budget.minutes
    time = f"{minutes / 60 / 24:.0f} days" if minutes > 48 * 60 else seconds_text(60 * minutes)
    return f"{DEVICES[paper.budget.device]}, ~{time} a seed"


def figure_text(value: float | None, share: bool, *, signed: bool = False) -> str:
    """A figure as papers print it: shares in percent with two decimals."""
    if value is None:
        return NOTHING
    number = 100 * value if share else value
    return f"{number:+.2f}" if signed else f"{number:.2f}"


def comparison_cells(row: Comparison) -> tuple[str, ...]:
    """One line of the comparison."""
    ours = figure_text(row.mean, row.share)
    if row.spread is not None:
        ours += f" ± {figure_text(row.spread, row.share)}"
    interval = NOTHING
    if row.ci95 is not None:
        interval = f"{figure_text(row.ci95[0], True)} to {figure_text(row.ci95[1], True)} (n {row.n:,})"
    verdict: str = row.verdict
    if row.collapsed_seeds and row.published is not None:
        verdict += " (" if verdict == "collapsed" else " (collapsed: "
        verdict += f"seed {', '.join(map(str, row.collapsed_seeds))}"
        verdict += f"; {figure_text(row.healthy, row.share)} without)" if row.healthy is not None else ")"
    published = row.published
    return (
        row.variant,
        row.figure,
        figure_text(published.value if published else None, row.share),
        ours,
        interval,
        figure_text(row.difference, row.share, signed=True),
        NOTHING if published is None else f"±{figure_text(published.tolerance, row.share)}",
        verdict,
    )


def run_cells(runs: Sequence[SeedRun]) -> list[tuple[str, ...]]:
    """Every run by itself under a heading: a line a run or a column a run, whichever is narrower."""
    figures = list(dict.fromkeys(name for run in runs for name in run.figures))
    several = len({run.variant for run in runs}) > 1
    rows: list[tuple[str, ...]] = [("run", *figures, "health", "training")]
    for run in runs:
        values = [figure_text(run.figures.get(name), _share(name)) for name in figures]
        name = f"{run.variant} seed {run.seed}" if several else f"seed {run.seed}"
        rows.append((name, *values, health_text(run), seconds_text(run.train_seconds)))
    return min(rows, list(zip(*rows, strict=True)), key=lambda cells: sum(_widths(cells)))


def _share(figure: str) -> bool:
    return is_share(figure.partition(" at ")[0])


def health_text(run: SeedRun) -> str:
    """What became of a run."""
    if run.failed:
        return "failed"
    back = f", {run.rollbacks} rolled back" if run.rollbacks else ""
    return NOTHING if run.collapsed is None else f"{'COLLAPSED' if run.collapsed else 'healthy'}{back}"


def epoch_cells(table: EpochTable) -> list[tuple[str, ...]]:
    """A heading, every shared epoch, and the mean difference."""
    columns = table.reference.columns
    rows: list[tuple[str, ...]] = [("epoch", *(f"{name} {whose}" for name in columns for whose in ("paper", "ours")))]
    for row in table.rows:
        pairs = zip(row.published, row.ours, strict=True)
        rows.append((str(row.epoch), *(figure_text(value, True) for pair in pairs for value in pair)))
    means = [cell for value in table.differences for cell in ("difference", figure_text(value, True, signed=True))]
    return [*rows, ("mean", *means)] if means else rows


def sources(reproduction: Reproduction) -> list[str]:
    """Where each published figure was seen, and what it was measured with."""
    points = []
    for row in reproduction.comparisons:
        if (published := row.published) is not None:
            how = f" with {published.attack}" if published.attack else ""
            read_off = ", read off a figure" if published.seen == "figure" else ""
            points.append(f"{row.variant} {row.figure}{how}: {published.source}{read_off}")
    return list(dict.fromkeys(points))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first a heading, flush left."""
    widths = _widths(rows)
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([lines[0], rule, *lines[1:], rule])


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
