"""Many runs ranked by worst-case accuracy: in the terminal, as CSV and as a page.

Accuracies under different threats, on different data or on different numbers of images are no contest: every such
group has a ranking of its own. Within one, a model that was evaluated several times counts with the lowest accuracy
found, and runs whose 95% intervals overlap may well change places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.errors import printable
from robustml.files import write_text
from robustml.reporting.formats import eps_text, interval_text, norm_text, percent
from robustml.reporting.pages.links import link_to, link_to_run, stamp
from robustml.reporting.pages.template import Section, Tile, write_page
from robustml.reporting.runs import Run, labels
from robustml.reporting.spreadsheet import csv_text, rate_columns
from robustml.reporting.tables.cells import Cell, Content, Table
from robustml.reporting.tables.comparison import asked_rates, comparison_table, entries_of_runs, worst_of
from robustml.reporting.tables.text import table_text, wrapped
from robustml.reporting.verdict import verdict
from robustml.results import Rate

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["rank", "run", "experiment", "model", "parameters", "data", "norm", "eps", "n", "clean_accuracy",
            "worst_case", "worst_case_low", "worst_case_high", "attacks", "flags", "verdict"]  # fmt: skip


def summary_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Several runs as a data frame: a row a run; accuracies and interval bounds as fractions.

    Each rate has three columns: `clean_accuracy`, `clean_accuracy_low`, `clean_accuracy_high`; likewise
    `robust_accuracy/<attack>` for each attack, `worst_case`, and `backdoor`, `fidelity` and `certified` where any run
    has them. `corruptions` is a mean, and `verdict` the verdict in a word or two.
    """
    import pandas as pd  # start-up: the other verbs that rank nothing need none

    attacks = list(dict.fromkeys(name for run in runs for name in run.results.attacks))
    asked = [name for name in ("backdoor", "fidelity", "certified") if any(name in asked_rates(run) for run in runs)]
    rows = []
    for run, name in zip(runs, labels(runs), strict=True):
        results = run.results
        rates: dict[str, Rate | None] = {"clean_accuracy": results.clean_accuracy}
        for attack in attacks:
            found = results.attacks.get(attack)
            rates[f"robust_accuracy/{attack}"] = None if found is None else found.robust_accuracy
        rates |= {"worst_case": worst_of(run), **{heading: asked_rates(run).get(heading) for heading in asked}}
        rows.append(
            {
                "run": name,
                "experiment": results.experiment,
                "model": results.model.name,
                "parameters": results.model.parameters,
                "data": results.data.name,
                "seed": results.seed,
                "norm": results.threat.norm,
                "eps": results.threat.eps,
                "n": results.clean_accuracy.n,
                "attacks": " ".join(results.attacks),
                **rate_columns(rates),
                "corruptions": None if results.corruptions is None else results.corruptions.mean_accuracy,
                "verdict": verdict(results).word,
                "flags": len(results.flags),
            }
        )
    return pd.DataFrame(rows)


def _contests(runs: Sequence[Run]) -> dict[tuple[str, str, float, int], list[tuple[int | None, Run]]]:
    """Data, norm, eps and n to the ranked models; equals share a rank."""
    groups: dict[tuple[str, str, float, int], dict[str, Run]] = {}
    for run, name in zip(runs, labels(runs), strict=True):
        results = run.results
        contest = (results.data.name, results.threat.norm, results.threat.eps, results.clean_accuracy.n)
        models, weights = groups.setdefault(contest, {}), results.model.sha256 or name
        if weights not in models or _worst(run) < _worst(models[weights]):
            models[weights] = run
    ranked = {}
    for contest, models in sorted(groups.items()):
        best_first = sorted(
            models.values(), key=lambda run: (-_standing(run), -(run.results.clean_accuracy.value or 0))
        )
        values = [_standing(run) for run in best_first]
        ranked[contest] = [
            (1 + sum(other > value for other in values) if value >= 0 else None, run)
            for value, run in zip(values, best_first, strict=True)
        ]
    return ranked


def _standing(run: Run) -> float:
    """What a model is ranked by; -1 where nobody attacked, or somebody holds the trigger of a backdoor in it."""
    return -1.0 if verdict(run.results).word == "backdoored" else _attacked(run)


def _worst(run: Run) -> float:
    """For the lowest of several evaluations of one model; one without an attack is none."""
    value = _attacked(run)
    return value if value >= 0 else 2.0


def _attacked(run: Run) -> float:
    """The worst-case accuracy; -1 where nobody attacked."""
    worst = worst_of(run)
    return -1.0 if worst is None or worst.value is None else worst.value


def ranking_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """The ranking as a data frame.

    Args:
        runs: in any order; those without an attack have no robust accuracy, and no rank; nor have backdoored ones.

    Returns:
        A row a model, best first within each contest (data, norm, eps, n): `rank`, `run`, `experiment`, `model`,
        `parameters`, the contest, `clean_accuracy`, `worst_case` with `worst_case_low` and `worst_case_high`,
        `attacks`, `flags` and `verdict`. Equal accuracies share a rank.
    """
    frame = summary_frame(runs)
    places = {id(run): place for place, run in enumerate(runs)}
    order = [pair for group in _contests(runs).values() for pair in group]
    frame = frame.iloc[[places[id(run)] for _, run in order]].reset_index(drop=True)
    frame.insert(0, "rank", [rank for rank, _ in order])
    return frame.astype({"rank": "Int64", "parameters": "Int64", "worst_case": float, "clean_accuracy": float})[
        _COLUMNS
    ]


def _folded(runs: Sequence[Run], folder: Path) -> tuple[list[Run], dict[Path, list[Run]]]:
    """The runs that stand for themselves, and those of each sweep, which stand together."""
    around = {folder.resolve(), *folder.resolve().parents}
    alone: list[Run] = []
    sweeps: dict[Path, list[Run]] = {}
    for run in runs:
        above = (one for one in run.path.resolve().parents if one not in around)
        home = next((one for one in above if (one / "sweep.html").is_file()), None)
        if home is None:
            alone.append(run)
        else:
            sweeps.setdefault(home, []).append(run)
    return (alone, sweeps) if alone else ([*runs], {})


def _tables(runs: Sequence[Run], folder: Path) -> dict[str, Table]:
    """The ranking, and a row a sweep, by title."""
    page = folder / "leaderboard.html"
    alone, sweeps = _folded(runs, folder)
    entries = dict(zip(map(id, alone), entries_of_runs(alone), strict=True))
    contests = _contests(alone)
    rows, ranks, within, links = [], [], [], []
    # Where most compete comes first.
    for (data, norm, eps, n), ranked in sorted(contests.items(), key=lambda one: -len(one[1])):
        for rank, run in ranked:
            results, entry = run.results, entries[id(run)]
            counts: dict[str, Content] = {
                "model": results.model.name,
                "attacks": " ".join(results.attacks) or "none",
                "flags": entry.counts["flags"],
            }
            rows.append(replace(entry, facts={}, counts=counts))
            ranks.append(None if rank is None else str(rank))
            within.append(f"{data}, {norm_text(norm)} eps {eps_text(eps)}, {n:,} images")
            links.append(link_to_run(run.path, page))
    ranking = comparison_table(
        rows,
        more={"rank": ranks, **({"within": within} if len(contests) > 1 else {})},
        figures=["clean", "worst case"],
        ranked=["clean", "worst case"] if len(contests) == 1 else None,
        links=links,
    )
    contenders = [title for title, rank in zip(within, ranks, strict=True) if rank is not None]
    first = [place for place, rank in enumerate(ranks) if rank == "1" and contenders.count(within[place]) > 1]
    ranking = replace(ranking, leads=frozenset(first))
    tables = {"Ranking" if len(contests) > 1 else within[0]: ranking}
    if sweeps:
        headings = ["sweep", "runs", "data", "budgets", "accuracy under attack"]
        words = frozenset({"data", "budgets"})
        tables["Sweeps"] = Table(headings, [_swept(*one, folder) for one in sweeps.items()], words=words)
    return tables


def _swept(home: Path, runs: Sequence[Run], folder: Path) -> list[Content]:
    """A sweep in one row: where it lies, how large it is, and from where to where its figures go."""
    threats = [run.results.threat for run in runs]
    budgets = [eps_text(eps) for eps in sorted({threat.eps for threat in threats})]
    norms = ", ".join(dict.fromkeys(norm_text(threat.norm) for threat in threats))
    values = sorted(value for run in runs if (value := _attacked(run)) >= 0)
    name = printable("/".join(home.parts[-2:]))
    return [
        Cell(name, link=link_to(home / "sweep.html", folder / "leaderboard.html")),
        str(len(runs)),
        ", ".join(dict.fromkeys(run.results.data.name for run in runs)),
        f"{norms} eps {' to '.join(dict.fromkeys((budgets[0], budgets[-1])))}",
        " to ".join(dict.fromkeys(percent(value) for value in (values[0], values[-1]))) if values else None,
    ]


def _leader(runs: Sequence[Run], folder: Path) -> list[Tile]:
    """Who leads each of the first contests."""
    tiles = []
    contests = _contests(_folded(runs, folder)[0])
    for (data, norm, eps, _), ranked in sorted(contests.items(), key=lambda one: -len(one[1])):
        best = ranked[0][1]
        worst = worst_of(best)
        if worst is not None and sum(rank is not None for rank, _ in ranked) > 1:
            what = f"Highest worst case, {data}, {norm_text(norm)} eps {eps_text(eps)}"
            name = labels(runs)[[*map(id, runs)].index(id(best))]
            tiles.append(Tile(what, percent(worst.value), f"{name}; {interval_text(worst)}", worst.value))
    return tiles[:3]


def _lead(runs: Sequence[Run], folder: Path) -> str:
    count = len(_contests(_folded(runs, folder)[0]))
    apart = "Ranks count within equal data, budget and number of images: others do not compare. "
    return f"{apart if count > 1 else ''}Runs whose 95% intervals overlap may change places."


def ranking_text(runs: Sequence[Run], folder: Path | None = None, width: int | None = None) -> str:
    """The ranking as plain text, and a row a sweep."""
    apart = {"model", "attacks"}
    tables = {title: table.without(apart) for title, table in _tables(runs, folder or Path()).items()}
    blocks = [f"{title}\n{table_text(table, width)}" for title, table in tables.items()]
    note = "accuracy in %, ± half of the 95% interval; worst case: over all attacks"
    return "\n\n".join(blocks) + "\n" + wrapped([note], width)


def write_ranking(runs: Sequence[Run], folder: Path, left_out: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Write `leaderboard.csv` and `leaderboard.html` into a folder, and return the ranking.

    Args:
        runs: in any order.
        folder: where to write.
        left_out: runs that could not be read, and why; the page names them.
    """
    frame = ranking_frame(runs)
    write_text(folder / "leaderboard.csv", csv_text(frame))
    write_page(
        folder / "leaderboard.html",
        "comparison.html.j2",
        kind="robustness report",
        kicker="Robustness report",
        heading=f"{len(frame)} runs by accuracy under attack",
        stamp=stamp([run.results.data for run in runs], [run.results.environment for run in runs]),
        tiles=_leader(runs, folder),
        lead=_lead(runs, folder),
        left_out=left_out or {},
        sections=[Section(title, [table]) for title, table in _tables(runs, folder).items()],
        closing="Worst case: an image counts if no attack turned it; an upper bound, which a stronger attack can "
        "lower. Wilson 95% intervals: runs whose intervals overlap may change places. All figures: leaderboard.csv.",
    )
    return frame
