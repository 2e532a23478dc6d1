"""`robustml shortcuts run=<dir>`: look for marks that decide by themselves what a model reads, told of none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import OfARun, Share
from robustml.commands.hydra.of_a_run import command_on_a_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

_PASSED_ON = ("which", "size", "stride", "pictures", "threshold", "seed", "device")


class Shortcuts(OfARun):
    """What the config must hold."""

    size: int | None = None
    stride: int | None = None
    pictures: int = 1
    threshold: Share = 0.0


def shortcuts(config: DictConfig) -> None:
    """Search the training set of a run, and that of its clean twin."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows import shortcuts as workflow

    settings, data, out = prepared(config, config.run)
    passed = {name: settings[name] for name in _PASSED_ON}
    workflow.shortcuts(settings["run"], data, out=out, settings=settings, **passed)


def main() -> None:
    """Restore the run's settings and compose shortcuts.yaml over them."""
    command_on_a_run(shortcuts, "shortcuts", Shortcuts)


if __name__ == "__main__":
    main()
