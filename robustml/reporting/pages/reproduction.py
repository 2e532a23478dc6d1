"""The page of a reproduction: it says what reproduction.json says."""

from __future__ import annotations

from pathlib import Path

from robustml.reporting.figures.look import Chart
from robustml.reporting.formats import percent
from robustml.reporting.pages.links import link_to_run, stamp
from robustml.reporting.pages.template import Facts, Section, Tile, write_page
from robustml.reporting.reproduction.tables import (
    READ,
    comparison_tables,
    cost_text,
    epoch_table,
    run_table,
    sources,
    summary,
    third_party,
)
from robustml.results.reproduction import MISSES, SCHEMA, Reproduction

_CSS = {"match": "fine", "within tolerance": "fine", "off": "alert", "collapsed": "alarm"}
_HEALTH = (
    "Each measurement is of one training batch, in eval mode. The first seed is drawn broad, the others thin; a dotted "
    "line stands where a seed was first seen to withstand FGSM but not PGD."
)


def write_reproduction_page(reproduction: Reproduction, path: Path, health: str = "") -> Path:
    """Write the page.

    Args:
        reproduction: what it tells.
        path: the file to write.
        health: the figure of the variants' health, an SVG element; "" where none was measured.

    Returns:
        `path`.
    """
    paper = reproduction.paper
    links = [link_to_run(path.parent / run.folder, path) for run in reproduction.runs]
    about = {"id": paper.id, "arXiv": paper.arxiv, "cost": cost_text(paper), "status": paper.status}
    overrides = Facts("Overrides", {"command line": " ".join(reproduction.overrides) or None})
    return write_page(
        path,
        "reproduction.html.j2",
        kind="reproduction",
        kicker=f"Reproduction · {paper.citation} · fidelity {paper.fidelity}",
        heading=paper.title,
        stamp=stamp([reproduction.data], [reproduction.environment]),
        tiles=reproduction_tiles(reproduction),
        lead=summary(reproduction),
        left_out={},
        missed=reproduction.missed,
        compared=[Section(variant, [table]) for variant, table in comparison_tables(reproduction).items()],
        read=READ,
        sections=[
            Section("What became of each variant in training", charts=[Chart(health, _HEALTH)]),
            Section("Every seed by itself", [run_table(reproduction.runs, links).across]),
            *(
                Section(f"{table.variant} seed {table.seed}, epoch by epoch", [epoch_table(table)])
                for table in reproduction.epochs
            ),
        ],
        points={
            "What is different here": paper.deviations,
            "What others measured": third_party(paper),
            "Where the published figures were seen": sources(reproduction),
        },
        facts=[Facts("Paper", about), overrides],
        closing=f"Reproduction schema {SCHEMA}. Robust accuracies are upper bounds: a stronger attack can lower them. "
        "All figures: reproduction.json.",
    )


def reproduction_tiles(reproduction: Reproduction) -> list[Tile]:
    """Ours beside the paper's, the misses first; without a published figure, ours."""
    rows = [row for row in reproduction.comparisons if row.mean is not None and row.share]
    rows.sort(key=lambda row: (row.verdict not in MISSES, row.published is None))
    tiles = []
    for row in rows[:4]:
        paper = "" if row.published is None else f"paper {percent(row.published.value)}: "
        name = f"{row.variant}, {row.figure}" if len({one.variant for one in rows}) > 1 else row.figure
        tiles.append(Tile(name, percent(row.mean), f"{paper}{row.verdict}", row.mean, _CSS.get(row.verdict, "")))
    return tiles
