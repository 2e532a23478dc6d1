"""After a multirun: one table and one page of all its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class CollectRuns(Callback):
    """Remembers the folder of a multirun, so that it is collected even if a job of it failed."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this once, before the first job."""
        type(self).folder = Path(config.hydra.sweep.dir).absolute()


def collect_runs() -> None:
    """Write the table and the page of the multirun that has just ended, if one did and left a run."""
    folder, CollectRuns.folder = CollectRuns.folder, None
    if folder is not None and any(folder.rglob("results.json")):
        from robustml.workflows.sweep import collect  # draws figures, which no other command waits for

        collect(folder)
