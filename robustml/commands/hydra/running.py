"""Hydra at work: a config is composed once, held against what the verb asks for, and its task is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from robustml.commands.ending.signals import Stopped, command_for, way_to_go_on
from robustml.commands.hydra.arguments import check_arguments
from robustml.commands.hydra.asked import Asked, announcement, check_asked, refuse_missing
from robustml.commands.hydra.multirun import collect_runs, one_of_many
from robustml.commands.hydra.words import allow_arguments, config_folder
from robustml.config import config_dir
from robustml.say import say, without_notices
from robustml.workflows.settings.building import numbered

_MULTIRUN = frozenset({"-m", "--multirun"})


def run(task: Callable[[DictConfig], object], config_name: str, asked: type[Asked]) -> None:
    """Do what the command line asks for; the arguments are those of `hydra_command`."""
    sys.argv = [sys.argv[0], *allow_arguments(sys.argv[1:])]
    # Hydra would print the exception itself, in several lines, and exit with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    getLogger("hydra.utils").setLevel(CRITICAL)  # a `_target_` that it cannot find gets our one line
    failures: list[Exception] = []
    words, own = config_folder(sys.argv[1:])

    def cleaning(config: DictConfig) -> object:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            settings = numbered(OmegaConf.to_container(config, resolve=True))
            check_asked(asked, settings)
            choices = HydraConfig.get().runtime.choices
            refuse_missing(settings, config_name, choices)
            many = HydraConfig.get().mode == RunMode.MULTIRUN
            with one_of_many(words, folder) if many else nullcontext():
                first, _, second = config_name.partition("_")
                verb = f"{first} {second}".replace("_", "-") if first in ("data", "keys", "model") else first
                if not many and (line := announcement(verb, settings, choices)):  # torch takes seconds to import
                    say(line)
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

    options = {word for word in words if word.startswith("-")}
    try:
        if options <= _MULTIRUN:
            _run(cleaning, config_name, words, own)
        else:  # --cfg, --info, completion and the like
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(cleaning)()
    finally:
        collect_runs()
    if failures:
        raise failures[0]


def _run(task: Callable[[DictConfig], object], config_name: str, words: list[str], own: Path | None) -> None:
    """What `hydra.main` does for a job and a multirun; but that composes twice, to read `hydra.mode` off the config."""
    overrides = [word for word in words if word not in _MULTIRUN]
    with hydra.initialize_config_dir(str(config_dir()), job_name=config_name, version_base="1.3"):
        runner: Any = GlobalHydra.instance().hydra
        if own is not None:
            loader, place = runner.config_loader, f"file://{own.absolute()}"
            loader.config_search_path.prepend("command-line", place, SearchPathQuery(provider="schema"))
            loader.repository.initialize_sources(loader.config_search_path)
        if _MULTIRUN & set(words):
            runner.multirun(config_name, task, [*overrides, "hydra.mode=MULTIRUN"])
            return
        try:
            config = runner.compose_config(config_name, overrides, RunMode.RUN, with_log_configuration=True)
        except ConfigCompositionException as error:
            # values that are to be swept over: hydra.mode may say so
            if "--multirun" not in str(error) or runner.get_mode(config_name, overrides) != RunMode.MULTIRUN:
                raise
            runner.multirun(config_name, task, overrides)
            return
        if config.hydra.mode == RunMode.MULTIRUN:
            runner.multirun(config_name, task, overrides)
            return
        runner.compose_config = lambda **_: config
        runner.run(config_name, task, overrides)


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
