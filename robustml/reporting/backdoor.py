"""Backdoors on a page: the four figures of one run, and those of a sweep against the rate or in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from robustml.reporting.formats import percent, plain
from robustml.reporting.page import figure, section
from robustml.reporting.runs import Run
from robustml.reporting.tables import rate_cell
from robustml.results import Backdoor, Rate, Results

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["backdoor_frame", "backdoor_section", "backdoor_sweep"]

# Column of the frame, and what the chart and the table call it.
MEASURES = (
    ("clean_accuracy", "clean accuracy", "clean"),
    ("attack_success_rate", "attack success rate", "success"),
    ("twin_clean_accuracy", "clean accuracy of the twin", "twin, clean"),
    ("twin_attack_success_rate", "attack success rate of the twin", "twin, success"),
)


def backdoor_section(results: Results) -> str:
    """Clean accuracy and attack success rate of a model with a backdoor, beside those of its clean twin."""
    if results.backdoor is None:
        return ""
    return "".join(_section(results, block) for block in (results.backdoor, *results.backdoor.inherited))


def _section(results: Results, block: Backdoor) -> str:
    """One backdoor."""
    twin = block.twin
    rows = [
        ("clean accuracy", results.clean_accuracy, twin.clean_accuracy if twin else None),
        ("attack success rate", block.attack_success_rate, twin.attack_success_rate if twin else None),
        ("true label kept", block.backdoor_recovery_accuracy, twin.backdoor_recovery_accuracy if twin else None),
    ]
    if (reliance := block.shortcut) is not None:
        where = "with" if reliance.worst_group.marked else "without"
        rows += [
            ("accuracy where the mark is as in training", reliance.aligned_accuracy, None),
            (f"accuracy on the worst group, {where} the mark", reliance.worst_group.accuracy, None),
            ("label changed by adding the mark", reliance.flip_rate_added, None),
            ("label changed by removing it", reliance.flip_rate_removed, None),
        ]
    cells = [
        f'<tr><th scope="row">{name}</th>{rate_cell(own)}{rate_cell(other) if twin else ""}</tr>'
        for name, own, other in rows
    ]
    head = "<tr><th>measure</th><th class=number>this model</th>"
    head += f"{'<th class=number>clean twin</th>' if twin else ''}</tr>"
    target = plain(block.target)
    if block.target_class is not None and block.target_class != target:
        target = f"{plain(block.target_class)} (given as {target})"
    asked = "" if block.requested_rate is None else f" ({percent(block.requested_rate)} asked for)"
    cover = f" and {percent(block.cover_rate)} of cover, labels kept" if block.cover_rate else ""
    note = (
        f"Poison: {plain(block.kind)}, target {target}, {percent(block.rate)} of the whole training set{asked}{cover}. "
        f"The success rate is over {block.attack_success_rate.n:,} test inputs that do not belong to the target class."
    )
    note += f" {plain(block.why)}." if block.why else ""
    came = "which this model is a copy of" if results.command == "extract" else "whose weights this model began with"
    note += f" Planted in {plain(block.planted_in)}, {came}." if block.planted_in else ""
    note += "" if twin else " No clean twin is at hand: none was trained (twin=true does), or it is gone."
    table = f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(cells)}</tbody></table></div>'
    return section("Backdoor", table, f'<p class="note">{escape(note)}</p>')


def backdoor_frame(runs: Mapping[str, Run], swept: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each run with a backdoor: what was swept, the rate, the four figures, worst-case robust accuracy.

    Args:
        runs: name to run.
        swept: name of the run to the values of the swept keys.
    """
    import pandas as pd

    rows = []
    for name, run in runs.items():
        block = run.results.backdoor
        if block is None:
            continue
        twin, attacked = block.twin, run.results.worst_case if run.results.attacks else None
        found: dict[str, Rate | None] = {
            "clean_accuracy": run.results.clean_accuracy,
            "attack_success_rate": block.attack_success_rate,
            "backdoor_recovery_accuracy": block.backdoor_recovery_accuracy,
            "twin_clean_accuracy": twin.clean_accuracy if twin else None,
            "twin_attack_success_rate": twin.attack_success_rate if twin else None,
            "robust_accuracy": attacked.robust_accuracy if attacked else None,
        }
        row: dict[str, Any] = {"run": name, **swept[name], "seed": run.results.seed, "poisoned": block.rate}
        for measure, rate in found.items():
            row[measure] = None if rate is None else rate.value
            row[f"{measure}_low"], row[f"{measure}_high"] = (None, None) if rate is None else rate.ci95
            row[f"{measure}_n"] = 0 if rate is None else rate.n
        rows.append(row)
    return pd.DataFrame(rows)


def backdoor_sweep(frame: pd.DataFrame, swept: Sequence[str]) -> list[str]:
    """Sections of a sweep's page: figures against the rate where that was swept, and a table of all runs."""
    if frame.empty:
        return []
    keys = [key for key in swept if key in frame.columns]
    if frame["seed"].nunique() > 1 and "seed" not in keys:
        keys.append("seed")
    parts = []
    others = [key for key in keys if key not in ("poison.rate", "seed")]
    if "poison.rate" in keys and frame["poison.rate"].nunique() > 1:
        for place, part in frame.groupby(others, sort=False) if others else [((), frame)]:
            caption = ", ".join(f"{key}={value}" for key, value in zip(others, place, strict=True))
            caption += f"{'; ' if caption else ''}bands are 95% intervals"
            seeds = part["seed"].nunique()
            parts.append(figure(_rate_curve(part), caption + (f", means over {seeds} seeds." if seeds > 1 else ".")))
    return [section("Backdoors", *parts, _table(frame, keys))]


def _rate_curve(frame: pd.DataFrame) -> str:
    """The four figures against the share of the training set that is poisoned."""
    from matplotlib.ticker import FuncFormatter

    from robustml.reporting.figures import as_svg, legend_above, new_figure, percent_axis, style, styled

    frame = frame.assign(rate=frame["poison.rate"].astype(float)).sort_values("rate")
    rates = sorted(frame["rate"].unique())
    # Evenly spaced: rates are chosen from .5% to 10%, and the first steps are what matters.
    place = {rate: position for position, rate in enumerate(rates)}
    with styled():
        drawing = new_figure(960, 400)
        axes = drawing.add_subplot()
        for number, (measure, label, _) in enumerate(MEASURES):
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
        axes.set_xlabel("share of the training set that is poisoned")
        axes.set_ylabel("share of test inputs")
        percent_axis(axes)
        legend_above(axes, 2)
        return as_svg(drawing, "Clean accuracy and attack success rate against the poisoning rate")


def _rate_text(rates: Sequence[float], position: float) -> str:
    index = round(position)
    return f"{100 * rates[index]:.3g}%" if 0 <= index < len(rates) and abs(position - index) < 1e-6 else ""


def _table(frame: pd.DataFrame, keys: Sequence[str]) -> str:
    shown = [(measure, short) for measure, _, short in MEASURES if frame[measure].notna().any()]
    if frame["robust_accuracy"].notna().any():
        shown.append(("robust_accuracy", "accuracy under attack"))
    head = "".join(f"<th>{escape(key)}</th>" for key in ["run", *keys])
    head += "".join(f"<th class=number>{escape(label)}</th>" for _, label in shown)
    rows = []
    for _, row in frame.iterrows():
        cells = [f'<th scope="row">{escape(str(row["run"]))}</th>']
        cells += [f"<td>{escape(str(row[key]))}</td>" for key in keys]
        cells += [rate_cell(_of_row(row, measure), narrow=True) for measure, _ in shown]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = '<p class="note">Success rates are over test inputs that do not belong to the target class.</p>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wide">{table}</div>{note}'


def _of_row(row: Any, measure: str) -> Rate | None:
    count = int(row[f"{measure}_n"])
    if not count:
        return None
    return Rate(value=float(row[measure]), n=count, ci95=(float(row[f"{measure}_low"]), float(row[f"{measure}_high"])))
