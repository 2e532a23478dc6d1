"""How a verb with a config starts: Hydra composes it, what was asked for is checked, and the task is called."""

from __future__ import annotations

import string
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import yaml

from robustml.commands.failures import report_failures
from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.words import HELP, config_folder
from robustml.config import config_dir, config_groups

if TYPE_CHECKING:
    from omegaconf import DictConfig


def hydra_command(task: Callable[[DictConfig], object], config_name: str, asked: type[Asked] = Asked) -> None:
    """Compose `config_name`, run `task` once, or once a job of a multirun, and exit; or print the help of the verb.

    Args:
        task: gets the composed config; what it returns is what an optimising sweeper of Hydra gets of the job.
        config_name: the entry point in the config folder, without `.yaml`.
        asked: what the config must hold, whatever it composes.
    """
    if HELP & set(sys.argv[1:]):
        report_failures(lambda: print(_help(config_name)))
        return
    # Hydra takes a third of a second to import, and help does without.
    from robustml.commands.hydra.running import run

    report_failures(lambda: run(task, config_name, asked), config_name)


def _help(config_name: str) -> str:
    """The template in the config, with the options of all groups; those of the user's own configs, too."""
    folder, own = config_dir(), config_folder(sys.argv[1:])[1]
    template = yaml.safe_load((folder / f"{config_name}.yaml").read_text())["hydra"]["help"]["template"]
    groups = config_groups(folder, *([] if own is None else [own]))
    lines = "".join(f"{group}: {', '.join(options)}\n" for group, options in groups.items() if group)
    return string.Template(template).substitute(APP_CONFIG_GROUPS=lines)
