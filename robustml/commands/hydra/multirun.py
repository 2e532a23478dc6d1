"""After a multirun: one table and one page of all its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

__all__ = ["CollectRuns", "collect_runs"]

# A page that compares more runs than this is no longer read from top to bottom.
_MOST_COMPARED = 6


class CollectRuns(Callback):
    """Remembers the folder of a multirun, so that it is collected even if a job of it failed."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this once, before the first job."""
        type(self).folder = Path(config.hydra.sweep.dir).absolute()


def collect_runs() -> None:
    """Write sweep.csv, sweep.html and, for a few runs, report.html of the multirun that has just ended, if one did."""
    folder = CollectRuns.folder
    if folder is None or not any(folder.rglob("results.json")):
        return
    from robustml.reporting import find_runs, summary_table, write_report, write_sweep

    frame = write_sweep(folder)
    runs, _ = find_runs(folder)  # what cannot be read is in the frame's "failed"
    print("\n" + summary_table(runs) + "\n")
    for name, reason in frame.attrs["failed"].items():
        print(f"failed: {name}: {reason}")
    if 2 <= len(runs) <= _MOST_COMPARED:
        print(f"report: {write_report([run.path for run in runs], folder / 'report.html')}")
    print(f"sweep:  {folder / 'sweep.csv'}, {folder / 'sweep.html'}")
    print(f"run: {folder}", flush=True)
