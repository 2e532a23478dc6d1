"""`robustml poison data=... poison=... out=<dir>`: write a poisoned set with its plan, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def poison(config: DictConfig) -> None:
    """Poison the training part, all of it: no validation part is held out first."""
    from omegaconf import open_dict

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.workflows import poison as workflow
    from robustml.workflows.settings.building import build

    with open_dict(config):
        config.data.val_size = 0
    data = build_data(config)
    settings = plain(config)
    poison = build(settings["poison"], "poison")
    workflow.poison(data, poison, out=settings["out"], seed=settings["seed"], settings=settings)


def restore() -> None:
    """Rebuild the clean training set of `restore=<dir>` into the file `out`."""
    from robustml.workflows import poison as workflow

    out = argument("out")
    if out is None:
        raise RequestError("robustml poison restore=<dir> needs out=<file.parquet>")
    workflow.restore(Path(str(argument("restore"))), Path(out))


def main() -> None:
    """Restore where asked to, else compose poison_data.yaml."""
    if argument("restore") is not None:
        report_failures(restore)
        return
    hydra_command(poison, "poison_data")


if __name__ == "__main__":
    main()
