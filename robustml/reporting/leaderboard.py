"""Many runs ranked by worst-case accuracy: in the terminal, as CSV and as a page.

Accuracies under different threats, on different data or on different numbers of images are no contest: every such
group has a ranking of its own. Within one, a model that was evaluated several times counts with the lowest accuracy
found, and runs whose 95% intervals overlap may well change places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.files import write_text
from robustml.reporting.formats import NOTHING, eps_text, norm_text, percent
from robustml.reporting.runs import Run, labels
from robustml.reporting.spreadsheet import csv_text
from robustml.reporting.verdict import verdict
from robustml.results import Rate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["leaderboard_frame", "leaderboard_table", "write_leaderboard"]

_CONTEST = ["data", "norm", "eps", "n"]


def leaderboard_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """The ranking as a data frame.

    Args:
        runs: in any order; those without an attack have no robust accuracy, and no rank.

    Returns:
        A row a model, best first within each contest (data, norm, eps, n): `rank`, `run`, `experiment`, `model`,
        `parameters`, the contest, `clean_accuracy`, `worst_case` with `worst_case_low` and `worst_case_high`,
        `attacks`, `flags` and `verdict`. Equal accuracies share a rank.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for run, name in zip(runs, labels(runs), strict=True):
        results = run.results
        worst = _worst(run)
        rows.append(
            {
                "run": name,
                "experiment": results.experiment,
                "model": results.model.name,
                "parameters": results.model.parameters,
                "data": results.data.name,
                "norm": results.threat.norm,
                "eps": results.threat.eps,
                "n": results.clean_accuracy.n,
                "clean_accuracy": results.clean_accuracy.value,
                "worst_case": None if worst is None else worst.value,
                "worst_case_low": None if worst is None else worst.ci95[0],
                "worst_case_high": None if worst is None else worst.ci95[1],
                "attacks": " ".join(results.attacks),
                "weights": results.model.sha256 or name,
                "flags": len(results.flags),
                "verdict": verdict(results).word,
            }
        )
    frame = pd.DataFrame(rows)
    frame = frame.astype({"parameters": "Int64", "worst_case": float, "clean_accuracy": float})
    frame = frame.sort_values("worst_case", kind="stable").drop_duplicates([*_CONTEST, "weights"])
    order = [*_CONTEST, "worst_case", "clean_accuracy"]
    frame = frame.sort_values(order, ascending=[True] * 4 + [False] * 2, kind="stable", ignore_index=True)
    del frame["weights"]
    rank = frame.groupby(_CONTEST)["worst_case"].rank(method="min", ascending=False).astype("Int64")
    frame.insert(0, "rank", rank)
    return frame


def leaderboard_table(frame: pd.DataFrame) -> str:
    """The ranking as plain text: a block a contest."""
    blocks = []
    for contest, part in frame.groupby(_CONTEST, sort=False):
        rows = [_HEADINGS, *(_cells(row) for _, row in part.iterrows())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = [
            "  ".join(
                cell.ljust(width) if heading in _TEXT else cell.rjust(width)
                for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
            ).rstrip()
            for row in rows
        ]
        rule = "─" * max(map(len, lines))
        blocks.append("\n".join([_title(contest), lines[0], rule, *lines[1:], rule]))
    return "\n\n".join(blocks) + "\naccuracy in %, 95% interval in brackets; robust: worst case over the attacks"


def write_leaderboard(runs: Sequence[Run], folder: Path, left_out: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Write `leaderboard.csv` and `leaderboard.html` into a folder, and return the ranking.

    Args:
        runs: in any order.
        folder: where to write.
        left_out: runs that could not be read, and why; the page names them.
    """
    from robustml.reporting.page import document, left_out_box, section

    frame = leaderboard_frame(runs)
    write_text(folder / "leaderboard.csv", csv_text(frame))
    heading = f"{len(frame)} runs by accuracy under attack"
    body = [f'<header><p class="kicker">Robustness report</p><h1>{escape(heading)}</h1></header>']
    body.append(left_out_box(left_out or {}))
    body += [section(_title(contest), _html(part)) for contest, part in frame.groupby(_CONTEST, sort=False)]
    body.append(
        "<footer>Robust: an image counts if no attack turned it; an upper bound, which a stronger attack can lower. "
        "Wilson 95% intervals: runs whose intervals overlap may change places. All figures: leaderboard.csv.</footer>"
    )
    write_text(folder / "leaderboard.html", document(heading, body))
    return frame


def _worst(run: Run) -> Rate | None:
    """Without any attack the worst case is the clean accuracy, which wins no contest."""
    results = run.results
    return results.worst_case.robust_accuracy if results.worst_case is not None and results.attacks else None


def _title(contest: Any) -> str:
    data, norm, eps, n = contest
    return f"{data}, {norm_text(norm)} eps {eps_text(eps)}, {n:,} images"


_HEADINGS = ["rank", "run", "model", "parameters", "clean", "robust", "", "attacks", "flags", "verdict"]
_TEXT = {"run", "model", "attacks", "verdict"}


def _cells(row: Any) -> list[str]:
    """One run, in the order of the headings; missing numbers are dashes."""
    import pandas as pd

    known = not pd.isna(row["worst_case"])
    interval = f"[{percent(row['worst_case_low'], '')}, {percent(row['worst_case_high'], '')}]" if known else ""
    return [
        NOTHING if pd.isna(row["rank"]) else str(row["rank"]),
        row["run"],
        row["model"],
        NOTHING if pd.isna(row["parameters"]) else f"{row['parameters']:,}",
        percent(row["clean_accuracy"], ""),
        percent(row["worst_case"], "") if known else NOTHING,
        interval,
        row["attacks"] or "none",
        str(row["flags"]) if row["flags"] else "none",
        row["verdict"],
    ]


def _html(part: pd.DataFrame) -> str:
    head = "".join(f"<th{'' if name in _TEXT else ' class=number'}>{escape(name)}</th>" for name in _HEADINGS)
    body = ""
    for _, row in part.iterrows():
        cells = _cells(row)
        inside = "".join(
            f"<td{'' if name in _TEXT else ' class=number'}>{escape(cell)}</td>"
            for name, cell in zip(_HEADINGS, cells, strict=True)
        )
        # Whoever holds the trigger holds the model: it leads nothing.
        leads = cells[0] == "1" and row["verdict"] != "backdoored"
        body += f"<tr{' class=leads' if leads else ''}>{inside}</tr>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
