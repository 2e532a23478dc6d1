"""A multirun folder as one tidy table and one page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.errors import RequestError, nearest, printable
from robustml.files import write_text
from robustml.reporting.figures.sweeps import WORST_CASE, backdoor_curves, curves, heat_maps, label_of
from robustml.reporting.formats import eps_texts, percent
from robustml.reporting.pages.links import link_to_run, stamp
from robustml.reporting.pages.run import leading_tiles
from robustml.reporting.pages.template import Section, write_page
from robustml.reporting.runs import Run, comparable, one_model, read_run
from robustml.reporting.spreadsheet import csv_text, rate_columns
from robustml.reporting.tables.cells import Content, Table
from robustml.reporting.tables.comparison import Entry, comparison_table, entries_of_runs, worst_of
from robustml.reporting.verdict import verdict
from robustml.results import Rate

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FIXED = ("run", "seed", "train_eps", "test_eps", "attack", "source", "n",
         "clean_accuracy", "robust_accuracy", "ci_low", "ci_high")  # fmt: skip


def write_sweep(folder: Path, by: Sequence[str] = ()) -> pd.DataFrame:
    """Gather the runs below a multirun folder and write `sweep.csv` and `sweep.html` into it.

    Runs with a backdoor also make `backdoor.csv`.

    Args:
        folder: the multirun folder.
        by: keys that were swept ("objective", "threat.eps"), one column each; by default all overrides that differ
            between the runs. A value comes from the overrides of the run, else from its config.

    Returns:
        A row for each run, attack and test eps: `run`, the swept keys, `seed`, `train_eps`, `test_eps`, `attack`,
        `source` ("attack", "worst_case" or "curve"), `n`, `clean_accuracy`, `robust_accuracy`, `ci_low`, `ci_high`.
        Runs that failed are in `.attrs["failed"]` as {run: reason}, on the page, and in a warning of the log.

    Raises:
        RequestError: if the folder is missing, no run in it finished, or no run knows a key of `by`.
    """
    import pandas as pd

    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder; expected a multirun folder")
    runs: dict[str, Run] = {}
    failed: dict[str, str] = {}
    for path in _run_folders(folder):
        name = printable(path.relative_to(folder).as_posix())
        try:
            runs[name] = read_run(path)
        except RequestError as error:
            missing = not (path / "results.json").is_file()
            # The page travels: it names files by their place in the sweep.
            failed[name] = (
                "no results.json: the run did not finish"
                if missing
                else printable(str(error).replace(str(folder), "."))
            )
    if not runs:
        raise RequestError(f"no finished run (results.json) below {folder}; {len(failed)} unfinished")
    for name, reason in failed.items():
        log.warning("sweep: left out %s: %s", name, reason)

    overrides = {name: overrides_of(run.config) for name, run in runs.items()}
    keys = list(by) or _varying(overrides.values())
    values = {name: {key: _value(key, overrides[name], run.config) for key in keys} for name, run in runs.items()}
    for key in keys:
        if all(found[key] is None for found in values.values()):
            known = {known for row in overrides.values() for known in row}
            raise RequestError(f"no run of the sweep has {key!r}; {nearest(key, known)}")

    swept = [key for key in keys if key not in FIXED]
    rows = [row for name, run in runs.items() for row in _rows(name, run, {key: values[name][key] for key in swept})]
    frame = pd.DataFrame(rows, columns=["run", *swept, *FIXED[1:]])
    frame.attrs["failed"] = failed
    write_text(folder / "sweep.csv", csv_text(frame))
    backdoors = _backdoors(runs, {name: {key: values[name][key] for key in swept} for name in runs})
    if not backdoors.empty:
        write_text(folder / "backdoor.csv", csv_text(backdoors))
    _page(folder / "sweep.html", runs, frame, backdoors, swept, failed)
    return frame


def _run_folders(folder: Path) -> list[Path]:
    """Folders below (or at) `folder` that are runs, finished or not; none within another one."""
    found = {file.parent for mark in ("results.json", "config.yaml") for file in folder.rglob(mark)}
    found = {path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)}
    # A sweep may keep its own config beside the runs.
    inner = found - {folder}
    kept: list[Path] = []
    for path in sorted(inner or found, key=_natural):
        if not any(other in path.parents for other in kept):
            kept.append(path)
    return kept


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Order in which run 10 follows run 9, as Hydra numbers them."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.parts]


def overrides_of(config: dict[str, Any]) -> dict[str, str]:
    """The command line's overrides by key, from the list that config.yaml keeps of them."""
    lines = [str(line) for line in config.get("overrides") or []]
    pairs = (line.lstrip("+").partition("=") for line in lines if not line.startswith("~"))
    return {key: value for key, _, value in pairs}


def _varying(overrides: Iterable[dict[str, str]]) -> list[str]:
    rows = list(overrides)
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if len({row.get(key) for row in rows}) > 1]


def _value(key: str, overrides: dict[str, str], config: dict[str, Any]) -> Any:
    """The value of a swept key: as overridden, else as it stands in the config."""
    import yaml

    if key in overrides:
        try:
            value = yaml.safe_load(overrides[key])
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):  # a day that is none, brackets without end
            value = overrides[key]
        return value if isinstance(value, (int, float, str, bool)) else overrides[key]
    value = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        # A group that no override chose: its class names it.
        return str(value["_target_"]).rpartition(".")[2] if "_target_" in value else None
    return value


def _rows(name: str, run: Run, swept: dict[str, Any]) -> list[dict[str, Any]]:
    results = run.results
    eps = results.threat.eps
    found: list[tuple[str, str, float, Rate]] = [
        (attack, "attack", eps, result.robust_accuracy) for attack, result in results.attacks.items()
    ]
    if results.worst_case is not None:
        # The row stays, for the clean accuracy; where nobody attacked, there is no robust one.
        unknown = Rate(value=None, n=0, ci95=(0.0, 1.0))
        found.append((WORST_CASE, WORST_CASE, eps, results.worst_case.robust_accuracy if results.attacks else unknown))
    if results.curve is not None:
        found += [(results.curve.attack, "curve", point.eps, point.robust_accuracy) for point in results.curve.points]
    return [
        {
            "run": name, **swept, "seed": results.seed, "train_eps": run.train_eps, "test_eps": test_eps,
            "attack": attack, "source": source, "n": rate.n or results.clean_accuracy.n,
            "clean_accuracy": results.clean_accuracy.value,
            "robust_accuracy": rate.value, "ci_low": rate.ci95[0], "ci_high": rate.ci95[1],
        }
        for attack, source, test_eps, rate in found
    ]  # fmt: skip


def _backdoors(runs: Mapping[str, Run], swept: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
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
        twin = block.twin
        found: dict[str, Rate | None] = {
            "clean_accuracy": run.results.clean_accuracy,
            "attack_success_rate": block.attack_success_rate,
            "backdoor_recovery_accuracy": block.backdoor_recovery_accuracy,
            "twin_clean_accuracy": twin.clean_accuracy if twin else None,
            "twin_attack_success_rate": twin.attack_success_rate if twin else None,
            "robust_accuracy": worst_of(run),
        }
        row = {"run": name, **swept[name], "seed": run.results.seed, "poisoned": block.rate}
        rows.append(row | rate_columns(found, counted=True))
    return pd.DataFrame(rows)


def _page(
    path: Path,
    runs: dict[str, Run],
    frame: pd.DataFrame,
    backdoors: pd.DataFrame,
    swept: list[str],
    failed: dict[str, str],
) -> None:
    total = len(runs) + len(failed)
    lead = f"{len(runs)} of {total} runs finished." if failed else f"All {total} runs finished."
    if swept:
        lead += f" Swept: {', '.join(swept)}."
    lead += _lead(frame, swept, list(runs.values()))
    if planted := sum(verdict(run.results).word == "backdoored" for run in runs.values()):
        lead += f" There is a backdoor in the model of {planted} of the {len(runs)} runs."
    keys = [*swept, *(["seed"] if "seed" not in swept and frame["seed"].nunique() > 1 else [])]
    firsts = frame.drop_duplicates("run").set_index("run")
    more = {key: [str(firsts.at[name, key]) for name in runs] for key in keys}
    norms = {run.results.threat.norm for run in runs.values()}
    said = {"threat"} if "threat.eps" in keys and len(norms) == 1 else set()
    entries = [
        replace(entry, name=name, facts={fact: value for fact, value in entry.facts.items() if fact not in said})
        for name, entry in zip(runs, entries_of_runs([*runs.values()]), strict=True)
    ]
    links = [link_to_run(run.path, path) for run in runs.values()]
    table = comparison_table(entries, more=more, links=links, note="± half of the 95% interval.")
    sections = [
        Section("Runs", [table.across]),
        Section("Training budget against test budget", charts=heat_maps(frame, swept, norms)),
        Section("Accuracy as the attacker's budget grows", charts=curves(frame, swept, runs)),
    ]
    if not backdoors.empty:
        drawn = backdoor_curves(backdoors, [key for key in keys if key in backdoors])
        sections.insert(0, Section("Backdoors", [_twins(entries, more, runs)], charts=drawn))
    write_page(
        path,
        "comparison.html.j2",
        kind="robustness sweep",
        kicker="Robustness sweep",
        heading=printable(path.parent.name),
        stamp=stamp([run.results.data for run in runs.values()], [run.results.environment for run in runs.values()]),
        tiles=leading_tiles([*runs.values()], [f"run {name}" for name in runs]),
        lead=lead,
        left_out=failed,
        sections=sections,
        closing="Every figure, one row for each run, attack and eps: sweep.csv. Intervals: Wilson, 95%.",
    )


def _twins(entries: Sequence[Entry], more: Mapping[str, Sequence[str]], runs: Mapping[str, Run]) -> Table:
    """What each backdoor does beside its clean twin."""
    rows = []
    for entry, run in zip(entries, runs.values(), strict=True):
        if (block := run.results.backdoor) is not None:
            twin = block.twin
            figures: dict[str, Content] = {
                "clean": run.results.clean_accuracy,
                "success": block.attack_success_rate,
                "twin, clean": None if twin is None else twin.clean_accuracy,
                "twin, success": None if twin is None else twin.attack_success_rate,
                "accuracy under attack": worst_of(run),
            }
            rows.append(Entry(entry.name, entry.verdict, {}, figures))
    names = [entry.name for entry in entries]
    kept = {key: [values[names.index(row.name)] for row in rows] for key, values in more.items()}
    note = "Success rates are over test inputs that do not belong to the target class. ± half of the 95% interval."
    return comparison_table(rows, more=kept, note=note).across


def _lead(frame: pd.DataFrame, swept: list[str], runs: Sequence[Run]) -> str:
    """What the sweep found: the best model where models compare; what growing budgets do to one model."""
    worst = frame[frame["source"] == WORST_CASE].dropna(subset=["robust_accuracy"])
    if len(worst) < 2 or not all(run.results.attacks for run in runs):
        return ""
    if comparable(runs):
        top = worst.sort_values("robust_accuracy").iloc[-1]
        which = f"run {top['run']}" + (f", {label_of(top, swept)}" if swept else "")
        return f" Highest worst-case accuracy: {percent(top['robust_accuracy'])} ({which})."
    budgets = sorted(worst["test_eps"].unique())
    if not one_model(runs) or len(budgets) < 2 or len({run.results.threat.norm for run in runs}) > 1:
        return ""
    ends = [worst[worst["test_eps"] == eps]["robust_accuracy"].min() for eps in (budgets[0], budgets[-1])]
    texts = eps_texts([budgets[0], budgets[-1]])
    return (
        f" One model, attacked within {len(budgets)} budgets: {percent(ends[0])} right at eps {texts[0]}, "
        f"{percent(ends[1])} at eps {texts[1]}."
    )
