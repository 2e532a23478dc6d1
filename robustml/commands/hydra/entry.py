"""How a verb with a config starts: Hydra composes it, what was asked for is checked, and the task is called."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from robustml.commands.failures import report_failures
from robustml.commands.hydra.arguments import check_arguments
from robustml.commands.hydra.asked import ASKED, Asked, check_asked
from robustml.commands.hydra.multirun import collect_runs
from robustml.commands.hydra.words import allow_arguments
from robustml.commands.signals import Stopped, command_for, way_to_go_on
from robustml.config import config_dir
from robustml.say import without_notices
from robustml.workflows.settings.building import numbered

__all__ = ["hydra_command"]


def hydra_command(task: Callable[[DictConfig], object], config_name: str) -> None:
    """Compose `config_name`, run `task` once, or once a job of a multirun, and exit.

    Args:
        task: gets the composed config; what it returns is what an optimising sweeper of Hydra gets of the job.
        config_name: the entry point in the config folder, without `.yaml`.
    """
    sys.argv = [sys.argv[0], *allow_arguments(sys.argv[1:])]
    # Hydra would print the exception itself, in several lines, and exit with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # a `_target_` that it cannot find gets our one line

    failures: list[Exception] = []

    def cleaning(config: DictConfig) -> object:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            settings = numbered(OmegaConf.to_container(config, resolve=True))
            check_asked(ASKED.get(config_name, Asked), settings)
            check_arguments(settings)
            with way_to_go_on(lambda: _to_go_on(folder)), without_notices():
                return task(config)
        except Stopped:
            _remove_if_empty(folder)
            raise
        except Exception as error:
            _remove_if_empty(folder)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # Hydra then says which job it was, and goes on with the next
            failures.append(error)
            return None

    def run() -> None:
        try:
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(cleaning)()
        finally:
            collect_runs()
        if failures:
            raise failures[0]

    report_failures(run, config_name)


def _to_go_on(folder: Path) -> str:
    """How the job that was writing `folder` can be taken up again."""
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return command_for(folder)
    return f"{command_for(folder)}; this was job {HydraConfig.get().job.num}, and those after it were not begun"


def _remove_if_empty(folder: Path) -> None:
    """Take back the output folder that Hydra made before the request was found to be wrong."""
    for candidate in (folder, *folder.parents):
        if candidate.resolve() == Path.cwd() or not candidate.is_dir() or any(candidate.iterdir()):
            return
        candidate.rmdir()
