"""`robustml finetune run=<dir>`: train on from the weights of a run, as whoever downloaded them would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.of_a_run import command_on_a_run, settings_of_run
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["finetune", "main", "take_up_run"]

# What is restored of a run. How it was trained is chosen anew.
_RESTORED = ("seed", "data", "model", "threat", "attack", "evaluation", "validation")


def finetune(config: DictConfig) -> None:
    """Train from the run's weights, into an ordinary run directory.

    Raises:
        RequestError: the data are of another shape or number of classes than the run's model.
    """
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.workflows.fit import train
    from robustml.workflows.settings import read_settings

    data = build_data(config, Path(config.run))
    known = read_settings(Path(config.run))["data"]
    if not known.get("shape") or not known.get("num_classes"):
        raise RequestError(f"{config.run}/config.yaml tells no data.shape and data.num_classes")
    found, expected = (
        (tuple(shape), classes)
        for shape, classes in ((data.shape, data.num_classes), (known["shape"], known["num_classes"]))
    )
    if found != expected:
        raise RequestError(
            f"{data.name} has {found[1]} classes and inputs of the shape {found[0]}; the model of {config.run} takes "
            f"{expected[1]} and {expected[0]}: choose data like the run's"
        )
    # Absolute, so that an interrupted run is continued from wherever.
    absolute = {key: str(Path(config[key]).resolve()) for key in ("run", "backdoor_of") if config[key] is not None}
    settings = plain(config) | absolute | {"overrides": list(HydraConfig.get().overrides.task)}
    train(settings, data, Path(HydraConfig.get().runtime.output_dir), resume=False)


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
