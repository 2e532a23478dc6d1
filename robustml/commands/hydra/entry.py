"""How a verb with a config starts: Hydra composes it, what was asked for is checked, and the task is called."""

from __future__ import annotations

import re
import shutil
import string
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

import yaml

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.words import HELP, config_folder
from robustml.config import config_dir, config_groups
from robustml.say import fitted_lines

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
        report_failures(lambda: print("\n".join(fitted_lines(_help(config_name).split("\n"), sys.stdout))))
        return
    # Hydra takes a third of a second to import, and help does without.
    from robustml.commands.hydra.running import run

    report_failures(lambda: run(task, config_name, asked), config_name)


def _help(config_name: str) -> str:
    """The verb's own keys, the options of all groups, those of the user's own configs, too, and the examples."""
    folder, own = config_dir(), config_folder(sys.argv[1:])[1]
    text = (folder / f"{config_name}.yaml").read_text()
    template = yaml.safe_load(text)["hydra"]["help"]["template"]
    groups = config_groups(folder, *([] if own is None else [own]))
    wide = shutil.get_terminal_size((80, 24)).columns
    listed = [f"{group}: {', '.join(options)}" for group, options in groups.items() if group]
    lines = "\n".join(textwrap.fill(line, wide, subsequent_indent="  ", break_long_words=False) for line in listed)
    what, examples, rest = template.partition("examples:\n")
    what = re.sub(r"(?:^\S.*\n)+", lambda lines: textwrap.fill(lines[0], wide) + "\n", what, flags=re.MULTILINE)
    shown, heading, after = rest.partition("config groups")
    keys = re.split(r"^hydra:$", text, maxsplit=1, flags=re.MULTILINE)[0].partition("\n\n")[2].strip("\n")
    own_keys = f"keys, with their values:\n{textwrap.indent(keys, '  ')}\n\n" if keys else ""
    ordered = f"{what}{own_keys}{heading}{after}{chr(10) if heading else ''}{examples}{shown}".rstrip() + "\n"
    return string.Template(ordered.replace("${", "$${")).substitute(APP_CONFIG_GROUPS=lines)
