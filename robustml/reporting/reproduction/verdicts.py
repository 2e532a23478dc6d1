"""Ours against a paper's, figure by figure and epoch by epoch.

A figure meets its tolerance or misses it; the 95% interval that its number of test examples leaves is printed beside,
and decides only whether a figure that meets its tolerance is called a match.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from robustml.reporting.reproduction.finished import Finished, figures_of
from robustml.results import rate
from robustml.results.paper import Figure, Paper, PerEpoch, Published, is_share, name_of
from robustml.results.reproduction import Comparison, EpochRow, EpochTable, Reproduction, SeedRun, Verdict

if TYPE_CHECKING:
    import pandas as pd


def compare(
    paper: Paper, runs: Sequence[SeedRun], finished: Mapping[tuple[str, int], Finished], overrides: Sequence[str]
) -> Reproduction:
    """Set ours against theirs.

    Args:
        paper: what was published.
        runs: every run that was asked for, failed ones too.
        finished: the runs that did finish, by variant and seed.
        overrides: of the command line, for the record.
    """
    comparisons, epochs = [], []
    for variant in dict.fromkeys(run.variant for run in runs):
        of_variant = [run for run in runs if run.variant == variant]
        for figure in figures_of(paper, variant):
            ns = [
                found.n
                for run in of_variant
                if (variant, run.seed) in finished
                and (found := finished[variant, run.seed].measure(figure)) is not None
            ]
            comparisons.append(_comparison(figure, of_variant, ns[0] if ns and len(set(ns)) == 1 else None))
        for reference in paper.per_epoch:
            if variant in (reference.variants or [paper.variants[0].name]):
                for run in of_variant:
                    known = finished.get((variant, run.seed))
                    if known is not None and known.run.metrics is not None:
                        epochs.append(_epochs(reference, variant, run.seed, known.run.metrics))
    last = max((one.run.results for one in finished.values()), key=lambda one: one.environment.date or "", default=None)
    return Reproduction(
        paper=paper,
        overrides=list(overrides),
        runs=list(runs),
        comparisons=comparisons,
        epochs=epochs,
        data=None if last is None else last.data,
        environment=None if last is None else last.environment,
    )


def _comparison(figure: Figure, runs: Sequence[SeedRun], n: int | None) -> Comparison:
    key = name_of(figure)
    found = [(run, value) for run in runs if (value := run.figures.get(key)) is not None]
    values = [value for _, value in found]
    mean = statistics.fmean(values) if values else None
    sound = [value for run, value in found if not run.collapsed]
    published = figure if isinstance(figure, Published) else None
    share = is_share(figure.metric)
    ci95 = None
    if mean is not None and n and share:
        ci95 = rate(round(mean * n), n).ci95
    collapsed = [run.seed for run in runs if run.collapsed]
    verdict: Verdict = "no target"
    if published is not None:
        # Where the paper publishes the collapse itself, a collapse excuses nothing, and its absence is a finding.
        awaited = figure.metric == "collapse_epoch"
        verdict = judge_figure(published, values, ci95, bool(collapsed) and not awaited)
        if awaited and mean is None and any(run.collapsed is False for run in runs):
            verdict = "off"
    return Comparison(
        variant=runs[0].variant,
        figure=key,
        share=share,
        published=published,
        values=values,
        mean=mean,
        spread=statistics.stdev(values) if len(values) > 1 else None,
        healthy=statistics.fmean(sound) if sound and len(sound) < len(values) else None,
        n=n,
        ci95=ci95,
        difference=None if mean is None or published is None else mean - published.value,
        collapsed_seeds=collapsed,
        verdict=verdict,
    )


def judge_figure(
    published: Published, values: Sequence[float], ci95: tuple[float, float] | None, collapsed: bool
) -> Verdict:
    """Whether the mean of ours reproduces a published figure.

    Args:
        published: the figure and its tolerance.
        values: ours, one a seed. Where not one of them is within the tolerance, a mean that is says nothing.
        ci95: the interval of their mean.
        collapsed: whether a seed lost its robustness in training.
    """
    if not values:
        return "not measured"
    # A sum of decimals such as .97 + .03 may end up beyond 1 by a rounding error.
    near = [abs(value - published.value) <= published.tolerance + 1e-9 for value in (statistics.fmean(values), *values)]
    if near[0] and any(near[1:]):
        inside = ci95 is not None and ci95[0] <= published.value <= ci95[1]
        return "match" if inside else "within tolerance"
    return "collapsed" if collapsed else "off"


def _epochs(reference: PerEpoch, variant: str, seed: int, metrics: pd.DataFrame) -> EpochTable:
    present = [column for column in reference.columns if column in metrics.columns]
    rows = []
    if len(present) == len(reference.columns):
        known = metrics.dropna(subset=present)
        ours = {
            int(epoch): [float(known[name].iloc[place]) for name in present]
            for place, epoch in enumerate(known["epoch"])
        }
        rows = [
            EpochRow(epoch=epoch, published=theirs, ours=ours[epoch])
            for epoch, theirs in sorted(reference.values.items())
            if epoch in ours
        ]
    differences = [
        statistics.fmean(row.ours[place] - row.published[place] for row in rows)
        for place in range(len(reference.columns))
        if rows
    ]
    close = all(abs(difference) <= reference.tolerance + 1e-9 for difference in differences)
    verdict: Verdict = "not measured" if not rows else "within tolerance" if close else "off"
    return EpochTable(
        variant=variant, seed=seed, reference=reference, rows=rows, differences=differences, verdict=verdict
    )
