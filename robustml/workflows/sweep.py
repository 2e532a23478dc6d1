"""One figure against another: the same job for every combination of values, then one table and one page of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.errors import RequestError, RunFailed
from robustml.progress import track
from robustml.reporting import read_run, summary_table, write_report, write_sweep
from robustml.reporting.pages.sweep import FIXED
from robustml.reporting.tables.comparison import sweep_tables
from robustml.say import say

if TYPE_CHECKING:
    import pandas as pd

# A page that compares more runs than this is no longer read from top to bottom.
_MOST_COMPARED = 6


def sweep(
    job: Callable[..., object], over: Mapping[str, Sequence[Any]], *, out: str | Path, by: Sequence[str] = ()
) -> pd.DataFrame:
    """Do a job with every combination of values, each into a folder of its own; what fails is named, and the rest done.

    Args:
        job: called with ``out=<folder>`` and a value by each name, to leave a run directory, such as
            ``lambda out, eps: robustml.evaluate(run, threat=LpBall("inf", eps), out=out)``.
        over: the values by the name of the argument.
        out: gets the folders 0, 1, ..., and what `collect` writes.
        by: see `collect`.

    Returns:
        The table, see `robustml.reporting.write_sweep`.

    Raises:
        RequestError: no job left a run.
    """
    folder = Path(out)
    for number, values in enumerate(track(list(product(*over.values())), "jobs")):
        named = dict(zip(over, values, strict=True))
        try:
            job(out=folder / f"{number}", **named)
        except (RequestError, RunFailed) as error:
            say(f"failed: {number}, {', '.join(f'{name}={value}' for name, value in named.items())}: {error}")
    return collect(folder, by)


def collect(folder: Path, by: Sequence[str] = ()) -> pd.DataFrame:
    """Write sweep.csv, sweep.html and, for a few runs, report.html of the runs below a folder.

    Args:
        folder: of a sweep.
        by: keys of the runs' settings, such as ``threat.eps``, that get a column each; by default what was overridden.

    Raises:
        RequestError: there is no such folder, or no run in it.
    """
    frame = write_sweep(folder, by)
    rows = frame.drop_duplicates("run")
    swept = [key for key in rows.columns if key not in FIXED or (key == "seed" and rows["seed"].nunique() > 1)]
    runs = [read_run(folder / name) for name in rows["run"]]
    if len({run.results.experiment for run in runs}) > 1 or not swept:
        say("\n" + summary_table(runs) + "\n")
    else:
        values = [dict(zip(swept, row, strict=True)) for row in rows[swept].itertuples(index=False)]
        say("\n" + sweep_tables(values, runs) + "\n")
    for name, reason in frame.attrs["failed"].items():
        say(f"failed: {name}: {reason}")
    if 2 <= len(runs) <= _MOST_COMPARED:
        say(f"report: {write_report([run.path for run in runs], folder / 'report.html')}")
    say(f"sweep:  {folder / 'sweep.csv'}\nsweep:  {folder / 'sweep.html'}")
    say(f"run: {folder}")
    return frame
