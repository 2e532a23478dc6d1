"""`robustml evaluate run=<dir>`: attack a trained model, with the run's own attacks or others.

`robustml evaluate model=<option or class> checkpoint=<file>` does the same to a model that no run of ours trained.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.failures import report_failures
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig


__all__ = ["evaluate", "main", "take_up_evaluation", "take_up_run"]

# What an evaluation restores of a run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data", "model", "threat", "evaluation")
_RESTORED_IF_THERE = ("poison", "balance", "backdoor_of")
_IMPORTABLE = re.compile(r"model=([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)")


def evaluate(config: DictConfig) -> None:
    """Attack the model of a run, or one of any other origin, and write an evaluation directory."""
    from robustml.commands.hydra.composing import prepared
    from robustml.workflows.evaluate import evaluate_model, evaluate_run

    settings, data, out = prepared(config, config.get("run"))
    (evaluate_run if "run" in settings else evaluate_model)(settings, data, out)


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, so that the command line can override them."""
    run = argument("run")
    if run is None:
        raise RequestError(
            "evaluate needs a run directory, robustml evaluate run=outputs/<name>/<time>, or a model, "
            "robustml evaluate model=wide_resnet checkpoint=<file>"
        )
    from robustml.commands.hydra.composing import record
    from robustml.workflows.settings import read_settings

    settings = read_settings(Path(run))
    missing = [key for key in _RESTORED if key not in settings]
    if missing:
        raise RequestError(f"{run}/config.yaml lacks {', '.join(missing)}: it is no config of robustml train")
    anew = [group for group in ("threat", "evaluation") if argument(group) is not None]
    record({key: settings[key] for key in (*_RESTORED, *_RESTORED_IF_THERE) if key in settings}, without=anew)


def take_up_evaluation() -> None:
    """Record the settings of `resume=<evaluation directory>`; batches that it has verdicts of are not run again."""
    from robustml.commands.hydra.composing import record
    from robustml.workflows.settings import read_settings
    from robustml.workflows.settings.trust import trusted

    folder = Path(str(argument("resume")))
    settings = read_settings(folder)
    if missing := [key for key in _RESTORED if key not in settings]:
        raise RequestError(f"{folder}/config.yaml lacks {', '.join(missing)}: it is no config of robustml evaluate")
    if not (folder / "verdicts.jsonl").is_file():
        raise RequestError(f"{folder} is not the directory of an evaluation: it has no verdicts.jsonl")
    if "run" not in settings and settings["model"].get("pretrained") and trusted() is not True:
        raise RequestError(f"{folder} would fetch weights (model.pretrained): trust=true allows it")
    record(settings)


def main() -> None:
    """Restore the run's settings and compose evaluate.yaml over them, or compose evaluate_model.yaml."""
    import sys

    if argument("resume") is not None:
        report_failures(take_up_evaluation)
        hydra_command(evaluate, "resume")
        return
    if any(word in ("--help", "-h", "--shell-completion", "-sc") for word in sys.argv):
        from robustml.commands.hydra.composing import record

        record({})  # help and completion need no run, but a config that composes
    elif argument("run") is None and any(word.startswith(("model=", "model.")) for word in sys.argv):
        sys.argv = [other for word in sys.argv for other in _importable(word)]
        hydra_command(evaluate, "evaluate_model")
        return
    else:
        report_failures(take_up_run)
    hydra_command(evaluate, "evaluate")


def _importable(word: str) -> list[str]:
    """`model=my_package.MyNet` as the option and the value that it is short for; any other word as it is."""
    match = _IMPORTABLE.fullmatch(word)
    return ["model=custom", f"model._target_={match[1]}"] if match else [word]


if __name__ == "__main__":
    main()
