"""`robustml evaluate run=<dir>`: attack a trained model, with the run's own attacks or others.

`robustml evaluate model=<option or class> checkpoint=<file>` does the same to a model that no run of ours trained.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, FilePath

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.asked import Evaluation, OfARun
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.of_a_run import RESTORED, command_on_a_run, settings_with
from robustml.commands.hydra.words import COMPLETION, HELP, argument, own_model
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Evaluate(OfARun):
    """What the config must hold."""

    evaluation: Evaluation = Evaluation()


class EvaluateModel(Evaluate):
    """What it must hold where the model is of no run: its file is looked for before any data is."""

    checkpoint: Annotated[FilePath, Field(strict=False)] | None = None


def evaluate(config: DictConfig) -> None:
    """Attack the model of a run, or one of any other origin, and write an evaluation directory."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.evaluate import evaluate_model, evaluate_run

    settings, data, out = prepared(config, config.get("run"))
    (evaluate_run if "run" in settings else evaluate_model)(settings, data, out)


def take_up_evaluation() -> None:
    """Record the settings of `resume=<evaluation directory>`; batches that it has verdicts of are not run again."""
    from robustml.commands.hydra.composing import record
    from robustml.workflows.settings.trust import trusted

    folder = Path(str(argument("resume")))
    settings = settings_with(folder, RESTORED["evaluate"].needed, "evaluate")
    if not (folder / "verdicts.jsonl").is_file():
        raise RequestError(f"{folder} is not the directory of an evaluation: it has no verdicts.jsonl")
    if "run" not in settings and settings["model"].get("pretrained") and trusted() is not True:
        raise RequestError(f"{folder} would fetch weights (model.pretrained): trust=true allows it")
    record(settings)


def main() -> None:
    """Restore the run's settings and compose evaluate.yaml over them, or compose evaluate_model.yaml."""
    if (HELP | COMPLETION) & set(sys.argv):
        command_on_a_run(evaluate, "evaluate", Evaluate)
    elif argument("resume") is not None:
        report_failures(take_up_evaluation)
        hydra_command(evaluate, "resume", Evaluate)
    elif argument("run") is None and any(word.startswith(("model=", "model.")) for word in sys.argv):
        sys.argv = own_model(sys.argv)
        hydra_command(evaluate, "evaluate_model", EvaluateModel)
    else:
        command_on_a_run(evaluate, "evaluate", Evaluate)


if __name__ == "__main__":
    main()
