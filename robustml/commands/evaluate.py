"""`robustml evaluate run=<dir>`: attack a trained model, with the run's own attacks or others.

`robustml evaluate model=<option or class> checkpoint=<file>` does the same to a model that no run of ours trained.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.failures import report_failures
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError, pasteable

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from robustml.data import DataModule
    from robustml.workflows.measuring.backdoors import Planted

__all__ = ["evaluate_model", "evaluate_run", "main", "take_up_run"]

# What an evaluation restores of a run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data", "model", "threat", "evaluation")
_RESTORED_IF_THERE = ("poison", "balance", "backdoor_of")
_IMPORTABLE = re.compile(r"model=([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)")


def evaluate_run(config: DictConfig) -> None:
    """Load the run's model and data, attack, and write an evaluation directory beside the run."""
    from robustml.commands.hydra.composing import build_data, plain
    from robustml.workflows.measuring.backdoors import check_shown, inherited, planted_by, planted_in, twin_of
    from robustml.workflows.poisoning import poison_as_configured
    from robustml.workflows.run import TROJAN, load_model, weights_of

    source = Path(config.run)
    model = load_model(source, config.which)
    data = build_data(config, source)
    settings = plain(config)
    poisoning = poison_as_configured(data, settings)
    own = [] if poisoning is None else planted_by(poisoning.poison, poisoning.manifest, twin_of(source))
    older = planted_in(source) if (source / TROJAN).is_file() else inherited(settings, source)
    check_shown(older, data)
    _judge(model, data, settings, weights_of(source, config.which), [*own, *older])


def evaluate_model(config: DictConfig) -> None:
    """Build a model of any origin, load its checkpoint, attack, and write an evaluation directory."""
    from robustml.commands.hydra.composing import build_data, plain
    from robustml.workflows.foreign import foreign_model

    data = build_data(config)
    settings = plain(config)
    model = foreign_model(settings, data)
    _judge(model, data, settings, Path(settings["checkpoint"]) if settings["checkpoint"] is not None else None)


def _judge(
    model: nn.Module,
    data: DataModule,
    settings: dict[str, Any],
    weights: Path | None,
    planted: Sequence[Planted] = (),
) -> None:
    """Attack `model` as the settings say, and write the evaluation directory; `weights` is the file it came from."""
    from hydra.core.hydra_config import HydraConfig

    from robustml.files import sweep
    from robustml.results import Cost
    from robustml.say import say
    from robustml.untrusted import own_files
    from robustml.workflows.building import build
    from robustml.workflows.measuring.judging import evaluate_as_configured, peak_memory_mb, tell, write_outcome
    from robustml.workflows.measuring.trojans import backdoors_of_model
    from robustml.workflows.preparing import introduce, pick_device
    from robustml.workflows.run import VERDICTS
    from robustml.workflows.settings import write_settings
    from robustml.workflows.weights import describe_model

    if settings["attack"] is not None:
        settings["evaluation"]["attacks"] = {_name(settings["attack"]): settings["attack"]}
        settings["evaluation"]["curve"] = None
    threat = build(settings["threat"])
    device = pick_device(settings["device"])
    named = _named(settings["model"])
    introduce(data, threat, named, model)
    out = Path(HydraConfig.get().runtime.output_dir)
    record = out / VERDICTS
    own_files(out)
    sweep(out)  # what an evaluation that was killed here had half written
    write_settings(settings | {"overrides": list(HydraConfig.get().overrides.task)}, out / "config.yaml")
    try:
        results = evaluate_as_configured(model, data, threat, settings["evaluation"], device, record)
    except RequestError:
        if not record.exists():
            (out / "config.yaml").unlink()  # refused before the first image: there is nothing to continue
        raise
    write_outcome(
        out,
        results,
        data,
        settings,
        device,
        command="evaluate",
        model=describe_model(named, model, weights),
        cost=Cost(peak_memory_mb=peak_memory_mb(device)),
        backdoor=backdoors_of_model(model, planted, data, threat, settings["evaluation"], device),
    )
    tell(out)
    if not results.complete:
        again = pasteable("evaluate", f"resume={out}")
        say(f"stopped early, so that the worst case is an upper bound; go on with: {again}")


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
    from robustml.workflows.trust import trusted

    folder = Path(str(argument("resume")))
    settings = read_settings(folder)
    if missing := [key for key in _RESTORED if key not in settings]:
        raise RequestError(f"{folder}/config.yaml lacks {', '.join(missing)}: it is no config of robustml evaluate")
    if not (folder / "verdicts.jsonl").is_file():
        raise RequestError(f"{folder} is not the directory of an evaluation: it has no verdicts.jsonl")
    if "run" not in settings and settings["model"].get("pretrained") and trusted() is not True:
        raise RequestError(f"{folder} would fetch weights (model.pretrained): trust=true allows it")
    record(settings)


def _go_on(config: DictConfig) -> None:
    (evaluate_run if "run" in config else evaluate_model)(config)


def _named(model: dict[str, Any]) -> dict[str, Any]:
    """The settings with the `_target_` that people know the model by: a callable by its own name."""
    return {"_target_": model["path"]} if model["_target_"] == "hydra.utils.get_object" else model


def _name(attack: dict[str, Any]) -> str:
    """What to call the one attack that the command line chose."""
    return str(attack.get("name") or str(attack["_target_"]).rpartition(".")[2]).lower()


def main() -> None:
    """Restore the run's settings and compose evaluate.yaml over them, or compose evaluate_model.yaml."""
    import sys

    if argument("resume") is not None:
        report_failures(take_up_evaluation)
        hydra_command(_go_on, "resume")
        return
    if any(word in ("--help", "-h", "--shell-completion", "-sc") for word in sys.argv):
        from robustml.commands.hydra.composing import record

        record({})  # help and completion need no run, but a config that composes
    elif argument("run") is None and any(word.startswith(("model=", "model.")) for word in sys.argv):
        sys.argv = [other for word in sys.argv for other in _importable(word)]
        hydra_command(evaluate_model, "evaluate_model")
        return
    else:
        report_failures(take_up_run)
    hydra_command(evaluate_run, "evaluate")


def _importable(word: str) -> list[str]:
    """`model=my_package.MyNet` as the option and the value that it is short for; any other word as it is."""
    match = _IMPORTABLE.fullmatch(word)
    return ["model=custom", f"model._target_={match[1]}"] if match else [word]


if __name__ == "__main__":
    main()
