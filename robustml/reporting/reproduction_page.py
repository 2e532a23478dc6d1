"""The page of a reproduction: it says what reproduction.json says."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from robustml.reporting.page import document, facts, figure, section
from robustml.reporting.reproduction import SCHEMA, Reproduction
from robustml.reporting.reproduction_table import (
    COMPARED,
    comparison_cells,
    cost_text,
    epoch_cells,
    run_cells,
    sources,
    summary,
)

__all__ = ["reproduction_page"]

HEALTH = (
    "Each measurement is of one training batch, in eval mode. The first seed is drawn broad, the others thin; a dotted "
    "line stands where a seed was first seen to withstand FGSM but not PGD."
)


def reproduction_page(reproduction: Reproduction, health: str = "") -> str:
    """The whole page.

    Args:
        reproduction: what it tells.
        health: the figure of the variants' health, an SVG element; "" where none was measured.
    """
    paper = reproduction.paper
    kicker = f"Reproduction · {paper.citation} · fidelity {paper.fidelity}"
    body = [
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(paper.title)}</h1></header>',
        f'<p class="lead">{escape(summary(reproduction))}</p>',
        _missed(reproduction),
        section(
            "Ours against the paper's",
            *_comparisons(reproduction),
            '<p class="note">Shares in percent; mean ± standard deviation over seeds. The interval is what other test '
            "examples of that number could have given. A match meets its tolerance and has the paper's figure inside "
            "that interval.</p>",
        ),
        section("What became of each variant in training", figure(health, HEALTH)),
        section("Every seed by itself", _table(run_cells(reproduction.runs))),
        *(
            section(f"{table.variant} seed {table.seed}, epoch by epoch", _table(epoch_cells(table)))
            for table in reproduction.epochs
        ),
        section("What is different here", _list(paper.deviations)),
        section(
            "What others measured", _list([f"{row.what}: {row.value} ({row.source})" for row in paper.third_party])
        ),
        section("Where the published figures were seen", _list(sources(reproduction))),
        section("Facts", _facts(reproduction)),
        f"<footer>Reproduction schema {SCHEMA}. Robust accuracies are upper bounds: a stronger attack can lower them. "
        "All figures: reproduction.json.</footer>",
    ]
    return document(f"{paper.id} · reproduction", body)


def _comparisons(reproduction: Reproduction) -> list[str]:
    """A table a variant; the name of a variant is left out where there is but one."""
    cells: dict[str, list[Sequence[str]]] = {}
    for row in reproduction.comparisons:
        cells.setdefault(row.variant, []).append(comparison_cells(row)[1:])
    tables = {variant: _table([COMPARED[1:], *lines], words=1) for variant, lines in cells.items()}
    return [section(variant, table, level=3) if len(tables) > 1 else table for variant, table in tables.items()]


def _missed(reproduction: Reproduction) -> str:
    if not reproduction.missed:
        return ""
    points = "".join(f"<li>{escape(point)}</li>" for point in reproduction.missed)
    return f'<div class="flags"><h2>Missed</h2><ul>{points}</ul></div>'


def _facts(reproduction: Reproduction) -> str:
    paper = reproduction.paper
    cards = [
        facts("Paper", {"id": paper.id, "arXiv": paper.arxiv, "cost": cost_text(paper), "status": paper.status}),
        facts("Overrides", {"command line": " ".join(reproduction.overrides) or None}),
    ]
    return f'<div class="facts">{"".join(cards)}</div>'


def _list(points: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(point)}</li>" for point in points) + "</ul>" if points else ""


def _table(rows: Sequence[Sequence[str]], words: int = 0) -> str:
    """A table whose columns are numbers, but for the first and the last `words` ones."""
    heading, *lines = rows
    numbers = len(heading) - words
    head = "".join(_cell("th", text, 0 < place < numbers) for place, text in enumerate(heading))
    body = "".join(
        # A long name breaks where its parts meet, not anywhere.
        f'<tr><th scope="row">{escape(first).replace("@", "@<wbr>").replace("/", "/<wbr>")}</th>'
        f"{''.join(_cell('td', text, place < numbers) for place, text in enumerate(rest, 1))}</tr>"
        for first, *rest in lines
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(tag: str, text: str, number: bool) -> str:
    """A number stands to the right; what it has in brackets goes below it."""
    if not number:
        return f"<{tag}>{escape(text)}</{tag}>"
    return f'<{tag} class="number">{escape(text).replace(" (", "<br>(")}</{tag}>'
