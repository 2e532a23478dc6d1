"""A reproduction as tables and text: ours beside the paper's, every seed by itself, and what is different here."""

from __future__ import annotations

from collections.abc import Sequence

from robustml.reporting.formats import NOTHING, seconds_text
from robustml.reporting.tables.cells import Cell, Row, Table
from robustml.reporting.tables.text import table_text, wrapped
from robustml.results.paper import Paper, is_share
from robustml.results.reproduction import Comparison, EpochTable, Reproduction, SeedRun

DEVICES = {"cpu2": "2 CPU cores", "h200": "one H200", "many-gpu": "many GPUs"}
READ = (
    "Shares in percent; mean ± standard deviation over seeds. The interval is what other test examples of that number "
    "could have given. A match meets its tolerance and has the paper's figure inside that interval."
)


def reproduction_text(reproduction: Reproduction, width: int | None = None) -> str:
    """Everything that a reader of the terminal should see, in lines without colour codes."""
    paper = reproduction.paper
    head = [paper.title, f"{paper.citation} · fidelity: {paper.fidelity} · {cost_text(paper)}"]
    if reproduction.overrides:
        head.append(f"with {' '.join(reproduction.overrides)}")
    tables = comparison_tables(reproduction)
    blocks = [wrapped(head, width)]
    blocks += [f"{variant}\n{table_text(table, width)}".removeprefix("\n") for variant, table in tables.items()]
    blocks += [wrapped([READ], width), table_text(run_table(reproduction.runs), width)]
    for table in reproduction.epochs:
        title = f"{table.variant} seed {table.seed}, epoch by epoch: {table.verdict}"
        blocks.append(f"{title}\n{table_text(epoch_table(table), width)}")
    for heading, points in (
        ("deviations", paper.deviations),
        ("others", third_party(paper)),
        ("sources", sources(reproduction)),
    ):
        if points:
            blocks.append(wrapped([f"{heading}:", *(f"- {point}" for point in points)], width))
    return "\n\n".join(blocks)


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


def papers_text(papers: Sequence[Paper], width: int | None = None) -> str:
    """One line a paper where there is room: what it is, how close it is to the paper, and what it costs."""
    headings = ["paper", "title", "fidelity", "seeds", "cost", "status"]
    rows = [
        [paper.id, paper.title, paper.fidelity, str(len(paper.seeds)), cost_text(paper), paper.status]
        for paper in papers
    ]
    return table_text(Table(headings, rows, words=frozenset(headings) - {"seeds"}), width)


def cost_text(paper: Paper) -> str:
    """The cost class of one seed."""
    minutes = paper.budget.minutes
    time = f"{minutes / 60 / 24:.0f} days" if minutes > 48 * 60 else seconds_text(60 * minutes)
    return f"{DEVICES[paper.budget.device]}, ~{time} a seed"


def _figure(value: float | None, share: bool, *, signed: bool = False) -> str:
    """A figure as papers print it: shares in percent with two decimals."""
    if value is None:
        return NOTHING
    number = 100 * value if share else value
    return f"{number:+.2f}" if signed else f"{number:.2f}"


def comparison_tables(reproduction: Reproduction) -> dict[str, Table]:
    """Ours beside the paper's, a table a variant; "" is the name of the only one."""
    rows: dict[str, list[list[Cell | str]]] = {}
    for row in reproduction.comparisons:
        rows.setdefault(row.variant, []).append(_compared(row))
    headings = ["metric", "paper", "ours", "95% of n", "difference", "tolerance", "verdict"]
    tables = {variant: Table(headings, lines, words=frozenset({"verdict"})) for variant, lines in rows.items()}
    return tables if len(tables) > 1 else dict(zip([""], tables.values(), strict=False))


def _compared(row: Comparison) -> list[Cell | str]:
    published = row.published
    ours = _figure(row.mean, row.share)
    if row.spread is not None:
        ours += f" ± {_figure(row.spread, row.share)}"
    interval = Cell()
    if row.ci95 is not None:
        interval = Cell(f"{_figure(row.ci95[0], True)} to {_figure(row.ci95[1], True)}", more=f"(n {row.n:,})")
    verdict: str = row.verdict
    if row.collapsed_seeds and published is not None:
        verdict += " (" if verdict == "collapsed" else " (collapsed: "
        verdict += f"seed {', '.join(map(str, row.collapsed_seeds))}"
        verdict += f"; {_figure(row.healthy, row.share)} without)" if row.healthy is not None else ")"
    return [
        row.figure,
        _figure(published.value if published else None, row.share),
        ours,
        interval,
        _figure(row.difference, row.share, signed=True),
        NOTHING if published is None else f"±{_figure(published.tolerance, row.share)}",
        verdict,
    ]


def run_table(runs: Sequence[SeedRun], links: Sequence[str] = ()) -> Table:
    """Every run by itself; `links` lead to their pages."""
    figures = list(dict.fromkeys(name for run in runs for name in run.figures))
    several = len({run.variant for run in runs}) > 1
    rows: list[Row] = [
        [
            Cell(f"{run.variant} seed {run.seed}" if several else f"seed {run.seed}", link=link),
            *(_figure(run.figures.get(name), is_share(name.partition(" at ")[0])) for name in figures),
            _health(run),
            seconds_text(run.train_seconds),
        ]
        for run, link in zip(runs, links or [""] * len(runs), strict=True)
    ]
    return Table(["run", *figures, "health", "training"], rows)


def _health(run: SeedRun) -> str:
    if run.failed:
        return "failed"
    back = f", {run.rollbacks} rolled back" if run.rollbacks else ""
    return NOTHING if run.collapsed is None else f"{'COLLAPSED' if run.collapsed else 'healthy'}{back}"


def epoch_table(table: EpochTable) -> Table:
    """Every shared epoch of the authors' log and ours, and the mean difference."""
    headings = ["epoch", *(f"{name} {whose}" for name in table.reference.columns for whose in ("paper", "ours"))]
    rows = [
        [
            str(row.epoch),
            *(_figure(value, True) for pair in zip(row.published, row.ours, strict=True) for value in pair),
        ]
        for row in table.rows
    ]
    means = [cell for value in table.differences for cell in ("difference", _figure(value, True, signed=True))]
    return Table(headings, [*rows, ["mean", *means]] if means else rows, total=bool(means))


def third_party(paper: Paper) -> list[str]:
    """What others measured, in words."""
    return [f"{row.what}: {row.value} ({row.source})" for row in paper.third_party]


def sources(reproduction: Reproduction) -> list[str]:
    """Where each published figure was seen, and what it was measured with."""
    points = []
    for row in reproduction.comparisons:
        if (published := row.published) is not None:
            how = f" with {published.attack}" if published.attack else ""
            read_off = ", read off a figure" if published.seen == "figure" else ""
            points.append(f"{row.variant} {row.figure}{how}: {published.source}{read_off}")
    return list(dict.fromkeys(points))
