"""`robustml detect run=<dir>`: look for poisoned records and backdoors; exit status 3 where something is found.

`robustml detect model=<option or class> checkpoint=<file> data=...` does the same to a model of any other origin.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robustml.commands.evaluate import EvaluateModel
from robustml.commands.hydra.asked import Count, OfARun
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.of_a_run import command_on_a_run
from robustml.commands.hydra.words import COMPLETION, HELP, argument, own_model

if TYPE_CHECKING:
    from omegaconf import DictConfig

FOUND = 3


class Detect(OfARun):
    """What the config must hold."""

    twin: bool = False
    clean: Literal["val", "test"] | None = None
    pictures: Count = 1
    detector: dict[str, Any] = Field(default_factory=dict)


class DetectModel(Detect, EvaluateModel):
    """What it must hold where the model is of no run."""


def detect(config: DictConfig) -> bool:
    """Examine the model of a run, or one of any other origin, with its records; True where something is found."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.detect import detect_model, detect_run

    settings, data, out = prepared(config, config.get("run"))
    # Of the default list a detector that does not fit is left out; one that was asked for says why not.
    chosen = argument("detector") is not None
    return (detect_run if "run" in settings else detect_model)(settings, data, out, chosen=chosen).found


def main() -> None:
    """Restore the run's settings and compose detect.yaml over them, or compose detect_model.yaml."""
    found: list[bool] = []

    def task(config: DictConfig) -> None:
        found.append(detect(config))

    of_a_model = argument("run") is None and any(word.startswith(("model=", "model.")) for word in sys.argv)
    if of_a_model and not (HELP | COMPLETION) & set(sys.argv):
        sys.argv = own_model(sys.argv)
        hydra_command(task, "detect_model", DetectModel)
    else:
        command_on_a_run(task, "detect", Detect)
    if any(found):
        sys.exit(FOUND)


if __name__ == "__main__":
    main()
