"""The charts of a sweep: accuracy against the attacker's budget, training against test budget, backdoors."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FuncFormatter

from robustml.reporting.figures.charts import accuracy_curve, heat_map
from robustml.reporting.figures.look import WIDTH, Chart, as_svg, describe, new_axes, style, styled
from robustml.reporting.runs import Run
from robustml.results import Curve, CurvePoint, Rate

if TYPE_CHECKING:
    import pandas as pd

WORST_CASE = "worst_case"
_BUDGET = "threat.eps"
# Column of the frame, and what the chart and the table call it.
BACKDOOR_FIGURES = (
    ("clean_accuracy", "clean accuracy", "clean"),
    ("attack_success_rate", "attack success rate", "success"),
    ("twin_clean_accuracy", "clean accuracy of the twin", "twin, clean"),
    ("twin_attack_success_rate", "attack success rate of the twin", "twin, success"),
)


def label_of(row: Any, swept: Sequence[str]) -> str:
    """A run by what was swept; by its folder when nothing was."""
    return ", ".join(f"{key}={row[key]}" for key in swept) or f"run {row['run']}"


def _rate(row: Any) -> Rate:
    """The robust accuracy of a row of the sweep."""
    value = row["robust_accuracy"]
    if value is None or math.isnan(value):  # no examples, or nobody attacked
        return Rate(value=None, n=0, ci95=(0.0, 1.0))
    return Rate(value=float(value), n=int(row["n"]), ci95=(float(row["ci_low"]), float(row["ci_high"])))


def curves(frame: pd.DataFrame, swept: Sequence[str], runs: Mapping[str, Run]) -> list[Chart]:
    """Accuracy against eps, with bands: the curves that runs drew themselves, one chart for each attack and norm.

    Where they drew none and one model was attacked within several budgets, its runs are the points of a curve.
    """
    own = [(name, run.results.curve, run.results.threat.norm) for name, run in runs.items() if run.results.curve]
    if not own:
        return list(_across_runs(frame, swept, runs))
    firsts = frame.drop_duplicates("run").set_index("run", drop=False)
    seeds = firsts["seed"].nunique() > 1 and "seed" not in swept
    charts = []
    for attack, norm in dict.fromkeys((curve.attack, norm) for _, curve, norm in own):
        members = [(firsts.loc[name], curve) for name, curve, other in own if (curve.attack, other) == (attack, norm)]
        lines = [(label_of(row, swept) + (f", seed {row['seed']}" if seeds else ""), curve) for row, curve in members]
        train_eps = [eps for row, _ in members if (eps := runs[str(row["run"])].train_eps)]
        caption = f"Attack {attack}; bands are 95% intervals of each run."
        charts.append(Chart(accuracy_curve(lines, train_eps, norm), caption))
    return charts


def _across_runs(frame: pd.DataFrame, swept: Sequence[str], runs: Mapping[str, Run]) -> Iterator[Chart]:
    """The curve of each model over the runs that attacked it, one chart for each norm."""
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
        yield Chart(accuracy_curve(lines, (), str(norm)), caption)


def _curve(attack: str, rows: pd.DataFrame) -> Curve:
    points = [CurvePoint(eps=float(row["test_eps"]), robust_accuracy=_rate(row)) for _, row in rows.iterrows()]
    return Curve(attack=attack, points=points)


def heat_maps(frame: pd.DataFrame, swept: list[str], norms: Collection[str]) -> list[Chart]:
    """Train eps by test eps, one map for each attack and each combination of whatever else was swept."""
    known = frame.dropna(subset=["train_eps"])
    # 0.75 x 0.05 and 0.25 x 0.15 are one budget.
    known = known.assign(test_eps=known["test_eps"].round(9))
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
        maps.append(Chart(heat_map(values, *(norms if len(norms) == 1 else ())), caption + "."))
    return maps


def backdoor_curves(frame: pd.DataFrame, keys: Sequence[str]) -> list[Chart]:
    """The figures of backdoors against the poisoning rate, where that was swept; one chart for each other setting."""
    if "poison.rate" not in keys or frame["poison.rate"].nunique() < 2:
        return []
    charts = []
    others = [key for key in keys if key not in ("poison.rate", "seed")]
    for place, part in frame.groupby(others, sort=False) if others else [((), frame)]:
        caption = ", ".join(f"{key}={value}" for key, value in zip(others, place, strict=True))
        caption += f"{'; ' if caption else ''}bands are 95% intervals"
        seeds = part["seed"].nunique()
        charts.append(Chart(_rate_curve(part), caption + (f", means over {seeds} seeds." if seeds > 1 else ".")))
    return charts


def _rate_curve(frame: pd.DataFrame) -> str:
    """The four figures against the share of the training set that is poisoned."""
    frame = frame.assign(rate=frame["poison.rate"].astype(float)).sort_values("rate")
    rates = sorted(frame["rate"].unique())
    # Evenly spaced: rates are chosen from .5% to 10%, and the first steps are what matters.
    place = {rate: position for position, rate in enumerate(rates)}
    with styled():
        axes = new_axes(WIDTH, 390)
        for number, (measure, label, _) in enumerate(BACKDOOR_FIGURES):
            known = frame.dropna(subset=[measure])
            if known.empty:
                continue
            mean = known.groupby("rate")[[measure, f"{measure}_low", f"{measure}_high"]].mean()
            positions = [place[rate] for rate in mean.index]
            look = style(number // 2 if number < 2 else number - 2) | {"color": style(number % 2)["color"]}
            look |= {"linestyle": "-" if number < 2 else "--", "alpha": 1.0 if number < 2 else 0.7}
            low, high = mean[f"{measure}_low"].to_numpy(float), mean[f"{measure}_high"].to_numpy(float)
            axes.fill_between(positions, low, high, color=look["color"], alpha=0.12, linewidth=0)
            axes.plot(positions, mean[measure].to_numpy(float), label=label, **look)
        axes.set_xticks(range(len(rates)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _rate_text(rates, value)))
        describe(axes, "share of the training set that is poisoned", "share of test inputs", 2)
        return as_svg(axes, "Clean accuracy and attack success rate against the poisoning rate")


def _rate_text(rates: Sequence[float], position: float) -> str:
    index = round(position)
    return f"{100 * rates[index]:.3g}%" if 0 <= index < len(rates) and abs(position - index) < 1e-6 else ""
