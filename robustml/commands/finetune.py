"""`robustml finetune run=<dir>`: train on from the weights of a run, as whoever downloaded them would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustml.commands.hydra.of_a_run import command_on_a_run, take_up
from robustml.commands.hydra.words import argument
from robustml.commands.train import Train

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robustml.workflows.settings.building import Settings


def finetune(config: DictConfig) -> None:
    """Train from the run's weights, into an ordinary run directory."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.finetune import finetune

    finetune(*prepared(config, config.run))


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, and whether there is a backdoor in it, whose fate is to be watched."""
    from robustml.workflows.run import offline

    def also(settings: Settings) -> Settings:
        poisoned = argument("run") if settings.get("poison") is not None else settings.get("backdoor_of")
        return {"model": offline(settings["model"]), "backdoor_of": poisoned}

    take_up("finetune", also)


def main() -> None:
    """Restore the run's settings and compose finetune.yaml over them."""
    command_on_a_run(finetune, "finetune", Train, take_up_run)


if __name__ == "__main__":
    main()
