"""The report: one self-contained page on a run, or a comparison of several."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from robustml.errors import RequestError
from robustml.files import write_text
from robustml.reporting.formats import norm_text
from robustml.reporting.runs import Run, labels, read_run
from robustml.reporting.story import comparison_sentences
from robustml.reporting.tables import summary_html
from robustml.results import SCHEMA

__all__ = ["write_report"]


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
    from robustml.reporting.page import document

    heading = title or (runs[0].results.experiment if len(runs) == 1 else f"Comparison of {len(runs)} runs")
    body = _one(runs[0], heading) if len(runs) == 1 else _several(runs, heading)
    return write_text(out, document(f"{heading} · robustness report", [*body, _footer(runs)]))


def _heading(kicker: str, heading: str) -> str:
    return f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(heading)}</h1></header>'


def _one(run: Run, heading: str) -> list[str]:
    from robustml.reporting import sections
    from robustml.reporting.health import health_parts
    from robustml.reporting.measured import extra_sections
    from robustml.reporting.page import section

    results = run.results
    kicker = f"Robustness report · {results.data.name} · {results.model.name} · seed {results.seed}"
    return [
        _heading(kicker, heading),
        sections.lead(run),
        sections.tiles(run),
        sections.flag_box(results),
        section("Attacks", sections.attacks_table(results)),
        section("Accuracy as the attacker's budget grows", sections.curve_figure(run)),
        sections.example_section(run),
        sections.class_section(run),
        extra_sections(results),
        section("Training", sections.training_figure(run), sections.selection_table(results), health_parts(run)),
        section("Cost and facts", sections.fact_cards(run)),
        sections.config_details(run),
    ]


def _several(runs: Sequence[Run], heading: str) -> list[str]:
    from robustml.reporting.page import figure, section
    from robustml.reporting.plots import accuracy_bars

    anchors = [f"run-{place + 1}" for place in range(len(runs))]
    names = labels(runs)
    bars = [
        # Where nobody attacked, the worst case is the clean accuracy, and no bar of robustness.
        (
            name,
            run.results.clean_accuracy,
            run.results.worst_case.robust_accuracy if run.results.worst_case and run.results.attacks else None,
        )
        for name, run in zip(names, runs, strict=True)
    ]
    data = ", ".join(dict.fromkeys(run.results.data.name for run in runs))
    return [
        _heading(f"Robustness report · {data}", heading),
        f'<p class="lead">{escape(" ".join(comparison_sentences(runs)))}</p>',
        section(
            "Summary",
            summary_html(runs, anchors),
            '<p class="note">± half of the 95% interval.</p>',
            figure(accuracy_bars(bars)),
        ),
        section("Accuracy as the attacker's budget grows", *_overlays(runs, names)),
        *(_short(run, name, anchor) for run, name, anchor in zip(runs, names, anchors, strict=True)),
    ]


def _overlays(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """The curves of all runs, one chart for each norm: budgets of different norms do not share an axis."""
    from robustml.reporting.page import figure
    from robustml.reporting.plots import accuracy_curve

    charts = []
    for norm in dict.fromkeys(run.results.threat.norm for run in runs):
        members = [(run, name) for run, name in zip(runs, names, strict=True) if run.results.threat.norm == norm]
        found = [(run, name, run.results.curve) for run, name in members if run.results.curve is not None]
        attacks = list(dict.fromkeys(curve.attack for _, _, curve in found))
        alike = len(attacks) == 1
        lines = [(name if alike else f"{name}: {curve.attack}", curve) for _, name, curve in found]
        train_eps = [run.train_eps for run, _, _ in found if run.train_eps]
        took_part = list(dict.fromkeys(name for _, _, curve in found for name in curve.took_part))
        caption = f"{norm_text(norm)}, the worst of {', '.join(took_part)}; bands are 95% intervals."
        charts.append(figure(accuracy_curve(lines, train_eps, norm), caption))
    return charts


def _short(run: Run, name: str, anchor: str) -> str:
    """One run within a comparison: the essentials, the rest folded."""
    from robustml.reporting import sections
    from robustml.reporting.health import health_parts
    from robustml.reporting.measured import extra_sections
    from robustml.reporting.page import section

    inner = [
        sections.example_section(run, most=6),
        sections.class_section(run),
        section("Training", sections.training_figure(run), sections.selection_table(run.results), health_parts(run)),
        section("Cost and facts", sections.fact_cards(run)),
    ]
    more = "\n".join(part for part in inner if part)
    parts = [
        f"<h2>{escape(name)}</h2>",
        sections.lead(run),
        sections.tiles(run),
        sections.flag_box(run.results, level=3) if run.results.flags else "",
        section("Attacks", sections.attacks_table(run.results), level=3),
        extra_sections(run.results),
        f"<details><summary>Examples, classes, training, cost and facts</summary>{more}</details>",
        sections.config_details(run),
    ]
    return f'<section class="run" id="{anchor}">' + "\n".join(part for part in parts if part) + "</section>"


def _footer(runs: Sequence[Run]) -> str:
    versions = dict.fromkeys(run.results.environment.robustml for run in runs if run.results.environment.robustml)
    made = f"robustml {', '.join(versions)} · " if versions else ""
    return (
        f"<footer>{escape(made)}results schema {SCHEMA}. Intervals are Wilson 95% intervals of the "
        "proportion; worst case counts an example as right only if no attack turned it. Robust accuracies are upper "
        "bounds: a stronger attack can lower them.</footer>"
    )
