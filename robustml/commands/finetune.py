"""`robustml finetune run=<dir>`: train on from the weights of a run, as whoever downloaded them would."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.entry import argument, hydra_command, report_failures
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

    from robustml.commands.parts import build_data
    from robustml.commands.quiet import quiet
    from robustml.commands.settings import plain, read_settings
    from robustml.commands.train import run_training

    quiet()
    data = build_data(config)
    known = read_settings(Path(config.run))["data"]
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
    run_training(settings, data, Path(HydraConfig.get().runtime.output_dir), resume=False)


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, and whether there is a backdoor in it, whose fate is to be watched."""
    run = argument("run")
    if run is None:
        raise RequestError("finetune needs a run directory: robustml finetune run=outputs/<name>/<time>")
    from robustml.commands.settings import read_settings, record

    settings = read_settings(Path(run))
    if missing := [key for key in _RESTORED if key not in settings]:
        raise RequestError(f"{run}/config.yaml lacks {', '.join(missing)}: it is no config of robustml train")
    poisoned = run if settings.get("poison") is not None else settings.get("backdoor_of")
    anew = [group for group in ("data", "threat", "attack", "evaluation") if argument(group) is not None]
    record({key: settings[key] for key in _RESTORED} | {"backdoor_of": poisoned}, without=anew)


def main() -> None:
    """Restore the run's settings and compose finetune.yaml over them."""
    if any(word in ("--help", "-h") for word in sys.argv):
        from robustml.commands.settings import record

        record({})  # help needs no run, but a config that composes
    else:
        report_failures(take_up_run)
    hydra_command(finetune, "finetune")


if __name__ == "__main__":
    main()
