"""`robustml shortcuts run=<dir>`: look for marks that decide by themselves what a model reads, told of none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustml.commands.hydra.of_a_run import command_on_a_run, settings_of_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main", "take_up_run"]

# What is restored of a run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data")
_RESTORED_IF_THERE = ("poison", "balance")


def shortcuts(config: DictConfig) -> None:
    """Search the training set of a run, and that of its clean twin."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows import shortcuts as workflow

    workflow.shortcuts(*prepared(config, config.run))


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, so that the command line can override them."""
    from robustml.commands.hydra.composing import record

    settings = settings_of_run("shortcuts", _RESTORED)
    record({key: settings[key] for key in (*_RESTORED, *_RESTORED_IF_THERE) if key in settings})


def main() -> None:
    """Restore the run's settings and compose shortcuts.yaml over them."""
    command_on_a_run(shortcuts, "shortcuts", take_up_run)


if __name__ == "__main__":
    main()
