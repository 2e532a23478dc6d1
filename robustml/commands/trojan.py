"""`robustml trojan run=<dir>`: put a TrojanNet beside the model of a run, and measure what it does there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.of_a_run import command_on_a_run, settings_of_run

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main", "take_up_run", "trojan_run"]

# What is restored of a run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data", "model", "threat", "evaluation")
_OF_THE_NET = ("which", "place", "weight", "temperature", "width", "steps")
_PASSED_ON = (*_OF_THE_NET, "limit", "batch_size", "seed", "device")


def trojan_run(config: DictConfig) -> None:
    """Build what the config names, and put the TrojanNet beside the run."""
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.workflows.building import build
    from robustml.workflows.trojan import trojan

    data = build_data(config, Path(config.run))
    settings = plain(config)
    trojan(
        settings["run"],
        data,
        build(settings["threat"], "threat"),
        out=HydraConfig.get().runtime.output_dir,
        settings=settings | {"overrides": list(HydraConfig.get().overrides.task)},
        **{name: settings[name] for name in _PASSED_ON},
    )


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, so that the command line can override them."""
    from robustml.commands.hydra.composing import record

    settings = settings_of_run("trojan", _RESTORED)
    record({key: settings[key] for key in _RESTORED})


def main() -> None:
    """Restore the run's settings and compose trojan.yaml over them."""
    command_on_a_run(trojan_run, "trojan", take_up_run)


if __name__ == "__main__":
    main()
