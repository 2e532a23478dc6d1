"""`robustml train`: train a model from a config, measure it clean and under attack, leave a run directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.asked import Evaluation, OfARun, Strict
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import HELP, argument, own_model

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Validation(Strict):
    """What the best weights are selected on."""

    monitor: Literal["adversarial", "clean"] = "clean"


class Train(OfARun):
    """What the config must hold; that of finetune and of what is resumed, too."""

    evaluation: Evaluation = Evaluation()
    validation: Validation = Validation()
    twin: bool = False
    compile: bool = False
    channels_last: bool = False


def train_as_composed(config: DictConfig) -> float | None:
    """Train as the config says, into Hydra's output directory; the validation figure of the weights that are kept."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.training import train

    settings, data, out = prepared(config, config.get("run"))  # of a finetuning that is resumed
    return train(settings, data, out, resume="resume" in config)


def main() -> None:
    """Start a run from train.yaml, or continue the one in `resume=<dir>` from its own config."""
    sys.argv, resume = own_model(sys.argv), argument("resume")
    if resume is None or HELP & set(sys.argv):
        hydra_command(train_as_composed, "train", Train)
        return
    from robustml.commands.hydra.composing import record
    from robustml.workflows.training.resume import settings_to_resume

    report_failures(lambda: record(settings_to_resume(Path(resume))))
    if any(word in ("-m", "--multirun") for word in sys.argv):
        print("error: resume= continues one run; leave out -m", file=sys.stderr)
        sys.exit(2)
    hydra_command(train_as_composed, "resume", Train)


if __name__ == "__main__":
    main()
