"""`robustml finetune run=<dir>`: train on from the weights of a run, as whoever downloaded them would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustml.commands.hydra.of_a_run import command_on_a_run, settings_of_run
from robustml.commands.hydra.words import argument

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["finetune", "main", "take_up_run"]

# What is restored of a run. How it was trained is chosen anew.
_RESTORED = ("seed", "data", "model", "threat", "attack", "evaluation", "validation")


def finetune(config: DictConfig) -> None:
    """Train from the run's weights, into an ordinary run directory."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.finetune import finetune

    finetune(*prepared(config, config.run))


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, and whether there is a backdoor in it, whose fate is to be watched."""
    from robustml.commands.hydra.composing import record
    from robustml.workflows.run import offline

    settings = settings_of_run("finetune", _RESTORED)
    poisoned = argument("run") if settings.get("poison") is not None else settings.get("backdoor_of")
    anew = [group for group in ("data", "threat", "attack", "evaluation") if argument(group) is not None]
    restored = {key: settings[key] for key in _RESTORED} | {"model": offline(settings["model"])}
    record(restored | {"backdoor_of": poisoned}, without=anew)


def main() -> None:
    """Restore the run's settings and compose finetune.yaml over them."""
    command_on_a_run(finetune, "finetune", take_up_run)


if __name__ == "__main__":
    main()
