"""The charts of a sweep: accuracy against the budget of the attacker, and training budget against test budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robustml.reporting.runs import Run
from robustml.results import Curve, CurvePoint, Rate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["WORST_CASE", "curves", "heat_maps", "label_of", "rate_of"]

WORST_CASE = "worst_case"
_BUDGET = "threat.eps"


def label_of(row: Any, swept: Sequence[str]) -> str:
    """A run by what was swept; by its folder when nothing was."""
    return ", ".join(f"{key}={row[key]}" for key in swept) or f"run {row['run']}"


def rate_of(row: Any) -> Rate:
    """The robust accuracy of a row of the sweep."""
    value = row["robust_accuracy"]
    if value is None or math.isnan(value):  # no examples, or nobody attacked
        return Rate(value=None, n=0, ci95=(0.0, 1.0))
    return Rate(value=float(value), n=int(row["n"]), ci95=(float(row["ci_low"]), float(row["ci_high"])))


def curves(frame: pd.DataFrame, swept: Sequence[str], runs: Mapping[str, Run]) -> list[str]:
    """Accuracy against eps, with bands: the curves that runs drew themselves, one chart for each attack and norm.

    Where they drew none and one model was attacked within several budgets, its runs are the points of a curve.
    """
    from robustml.reporting.page import figure
    from robustml.reporting.plots import accuracy_curve

    own = frame[frame["source"] == "curve"]
    if own.empty:
        return list(_across_runs(frame, swept, runs))
    points = own.copy()
    points["norm"] = [runs[name].results.threat.norm for name in points["run"]]
    seeds = points["seed"].nunique() > 1 and "seed" not in swept
    charts = []
    for (attack, norm), part in points.groupby(["attack", "norm"], sort=False):
        lines = []
        for _, run in part.groupby("run", sort=False):
            label = label_of(run.iloc[0], swept) + (f", seed {run.iloc[0]['seed']}" if seeds else "")
            lines.append((label, _curve(str(attack), run)))
        train_eps = [float(eps) for eps in part["train_eps"].dropna().unique()]
        charts.append(
            figure(
                accuracy_curve(lines, train_eps, str(norm)), f"Attack {attack}; bands are 95% intervals of each run."
            )
        )
    return charts


def _across_runs(frame: pd.DataFrame, swept: Sequence[str], runs: Mapping[str, Run]) -> Iterator[str]:
    """The curve of each model over the runs that attacked it, one chart for each norm."""
    from robustml.reporting.page import figure
    from robustml.reporting.plots import accuracy_curve

    attacked = [name for name, run in runs.items() if run.results.attacks]
    points = frame[frame["run"].isin(attacked) & (frame["source"] != "curve")].dropna(subset=["robust_accuracy"]).copy()
    if points.empty:
        return
    points["norm"] = [runs[name].results.threat.norm for name in points["run"]]
    points["weights"] = [runs[name].results.model.sha256 or name for name in points["run"]]
    others = [key for key in swept if key != _BUDGET]
    for norm, part in points.groupby("norm", sort=False):
        lines = []
        groups = part.groupby(["weights", *others], sort=False, dropna=False)
        several = sum(one["test_eps"].nunique() > 1 for _, one in groups) > 1
        for _, model in groups:
            if model["test_eps"].nunique() < 2:
                continue
            name = label_of(model.iloc[0], others) if others else runs[model.iloc[0]["run"]].results.experiment
            worst = model[model["source"] == WORST_CASE]
            lines.append((f"{name}: worst case" if several else "worst case", _curve(WORST_CASE, worst)))
            # The worst case is what counts; of one model, what each attack finds beside it can still be told apart.
            attacks = [] if several else [one for one in model.groupby("attack", sort=False) if one[0] != WORST_CASE]
            lines += [(str(attack), _curve(str(attack), rows)) for attack, rows in attacks if len(attacks) > 1]
        caption = "Each point is a run, at its own budget; bands are 95% intervals."
        yield figure(accuracy_curve(lines, (), str(norm)), caption) if lines else ""


def _curve(attack: str, rows: pd.DataFrame) -> Curve:
    points = [CurvePoint(eps=float(row["test_eps"]), robust_accuracy=rate_of(row)) for _, row in rows.iterrows()]
    return Curve(attack=attack, points=points)


def heat_maps(frame: pd.DataFrame, swept: list[str]) -> list[str]:
    """Train eps by test eps, one map for each attack and each combination of whatever else was swept."""
    from robustml.reporting.page import figure
    from robustml.reporting.plots import heat_map

    known = frame.dropna(subset=["train_eps"])
    if known["train_eps"].nunique() < 2:
        return []
    source = "curve" if (known["source"] == "curve").any() else WORST_CASE
    known = known[known["source"] == source]
    # Averaging over objectives or models would hide what they differ in; averaging over seeds is the point of seeds.
    others = [key for key in swept if known[key].nunique() > 1 and known.groupby(key)["train_eps"].nunique().max() > 1]
    maps = []
    for place, part in known.groupby(["attack", *others], sort=False, dropna=False):
        values = part.pivot_table(index="train_eps", columns="test_eps", values="robust_accuracy", aggfunc="mean")
        attack, *settings = place
        caption = f"Accuracy in percent, {str(attack).replace('_', ' ')}"
        caption += "".join(f", {key}={value}" for key, value in zip(others, settings, strict=True))
        if part["seed"].nunique() > 1:
            caption += f"; mean over {part['seed'].nunique()} seeds"
        maps.append(figure(heat_map(values), caption + "."))
    return maps
