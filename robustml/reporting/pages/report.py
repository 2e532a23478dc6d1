"""The report: one self-contained page on a run, or a comparison of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustml.errors import RequestError
from robustml.reporting.figures.charts import accuracy_bars, accuracy_curve
from robustml.reporting.figures.look import Chart
from robustml.reporting.formats import norm_text
from robustml.reporting.pages.links import stamp
from robustml.reporting.pages.run import RunView, leading_tiles
from robustml.reporting.pages.template import Section, write_page
from robustml.reporting.runs import Run, labels, read_run
from robustml.reporting.sentences import comparison_sentences
from robustml.reporting.tables.comparison import comparison_table, entries_of_runs, ranked_figures, worst_of
from robustml.results import SCHEMA, Curve


def write_report(run_dirs: Sequence[Path], out: Path, title: str | None = None) -> Path:
    """Write a page on one run, or one that compares several.

    Args:
        run_dirs: run directories; each must hold a results.json.
        out: the file to write, or a folder that exists, for `report.html` within it.
        title: heading of the page; by default the name of the experiment.

    Returns:
        The file.

    Raises:
        RequestError: if no run is given, or one cannot be read.
    """
    if not run_dirs:
        raise RequestError("a report needs at least one run directory, got none")
    runs = [read_run(folder) for folder in run_dirs]
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    versions = dict.fromkeys(run.results.environment.robustml for run in runs if run.results.environment.robustml)
    made = {"versions": list(versions), "schema": SCHEMA}
    if len(runs) > 1:
        return _several(runs, out, title or f"Comparison of {len(runs)} runs", made)
    results = runs[0].results
    view = RunView(runs[0], title or results.experiment, page=out)
    origin = stamp([results.data], [results.environment])
    kicker = f"Robustness report · {results.data.name} · {results.model.name} · seed {results.seed}"
    return write_page(
        out,
        "report.html.j2",
        kind="robustness report",
        kicker=kicker,
        heading=view.name,
        stamp=origin,
        view=view,
        made=made,
    )


def _several(runs: Sequence[Run], out: Path, heading: str, made: dict[str, object]) -> Path:
    views = [
        RunView(run, name, f"run-{place}", out)
        for place, (run, name) in enumerate(zip(runs, labels(runs), strict=True), 1)
    ]
    entries = entries_of_runs(runs)
    table = comparison_table(
        entries,
        ranked=ranked_figures(runs, entries),
        links=[f"#{view.anchor}" for view in views],
        note="± half of the 95% interval. Bold: the best of its figure; where intervals overlap, that may be chance.",
    )
    # Where nobody attacked, the worst case is the clean accuracy, and no bar of robustness.
    bars = accuracy_bars([(view.name, view.results.clean_accuracy, worst_of(view.run)) for view in views])
    curves = [
        (view.name, view.results.curve, view.results.threat.norm, view.run.train_eps)
        for view in views
        if view.results.curve
    ]
    return write_page(
        out,
        "compare_runs.html.j2",
        kind="robustness report",
        kicker=f"Robustness report · {', '.join(dict.fromkeys(run.results.data.name for run in runs))}",
        heading=heading,
        stamp=stamp([run.results.data for run in runs], [run.results.environment for run in runs]),
        tiles=leading_tiles(runs, [view.name for view in views]),
        lead=" ".join(comparison_sentences(runs)),
        left_out={},
        sections=[
            Section("Summary", [table.across], charts=[Chart(bars)]),
            Section("Accuracy as the attacker's budget grows", charts=curves_by_norm(curves)),
        ],
        views=views,
        made=made,
    )


def curves_by_norm(curves: Sequence[tuple[str, Curve, str, float | None]]) -> list[Chart]:
    """Curves in one chart for each norm: budgets of different norms do not share an axis.

    Args:
        curves: name of the run or card ("" where there is but one), curve, norm and training budget.
    """
    charts = []
    for norm in dict.fromkeys(norm for _, _, norm, _ in curves):
        members = [(name, curve, eps) for name, curve, one, eps in curves if one == norm]
        alike = len({curve.attack for _, curve, _ in members}) == 1
        lines = [
            (": ".join(filter(None, (name, "" if alike and name else curve.attack))), curve)
            for name, curve, _ in members
        ]
        counts = sorted({curve.points[0].robust_accuracy.n for _, curve, _ in members if curve.points})
        seen = " to ".join(f"{n:,}" for n in dict.fromkeys((*counts[:1], *counts[-1:])))
        took_part = ", ".join(dict.fromkeys(each for _, curve, _ in members for each in curve.took_part))
        caption = f"{norm_text(norm)}, the worst of {took_part}, n {seen}; bands are 95% intervals."
        charts.append(Chart(accuracy_curve(lines, [eps for _, _, eps in members if eps], norm), caption))
    return charts
