"""A multirun: a line a job while it goes on, and after it one table and one page of all its runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from robustml.say import hushed, say


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


@contextmanager
def one_of_many(words: Sequence[str], folder: Path) -> Iterator[None]:
    """Say which job of the multirun this is and, in a line, what came of it; its report is in its folder.

    Args:
        words: the command line, as Hydra reads it.
        folder: of the job.
    """
    given = OverridesParser.create().parse_overrides([word for word in words if not word.startswith("-")])
    swept = {each.get_key_element(): each for each in given if each.is_sweep_override()}
    hydra = HydraConfig.get()
    of = ""
    if all(each.is_discrete_sweep() for each in swept.values()):  # else the sweeper knows how many
        of = f" of {math.prod(len(list(each.sweep_string_iterator())) for each in swept.values())}"
    values = ", ".join(word for word in hydra.overrides.task if word.partition("=")[0] in swept)
    say(f"job {int(hydra.job.num) + 1}{of}{': ' if values else ''}{values}")
    began = time.monotonic()
    with hushed():
        yield
    if (folder / "results.json").is_file():
        from robustml.reporting.tables.comparison import figures_line  # start-up: rich

        say(f"  {figures_line(folder)}, {time.monotonic() - began:.1f} s")
