"""`robustml evaluate run=<dir>`: attack a trained model, with the run's own attacks or others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.entry import argument, hydra_command, report_failures
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["evaluate_run", "main", "take_up_run"]

# What an evaluation restores of a run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data", "model", "threat", "evaluation")


def evaluate_run(config: DictConfig) -> None:
    """Load the run's model and data, attack, and write an evaluation directory beside the run."""
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.judge import evaluate_as_configured, peak_memory_mb, tell, write_outcome
    from robustml.commands.parts import build_data, introduce, pick_device
    from robustml.commands.quiet import quiet
    from robustml.commands.runs import LAST, WEIGHTS, describe_model, load_model
    from robustml.commands.settings import build, plain, write_settings

    quiet()
    source = Path(config.run)
    model = load_model(source, config.which)
    data = build_data(config)
    settings = plain(config)
    if settings["attack"] is not None:
        settings["evaluation"]["attacks"] = {_name(settings["attack"]): settings["attack"]}
        settings["evaluation"]["curve"] = None
    threat = build(settings["threat"])
    device = pick_device(settings["device"])
    introduce(data, threat, settings["model"], model)
    results, curve = evaluate_as_configured(model, data, threat, settings["evaluation"], device)
    out = Path(HydraConfig.get().runtime.output_dir)
    write_settings(settings | {"overrides": list(HydraConfig.get().overrides.task)}, out / "config.yaml")
    weights = source / (WEIGHTS if settings["which"] == "best" else LAST)
    write_outcome(
        out,
        results,
        curve,
        data,
        settings,
        device,
        command="evaluate",
        model=describe_model(settings["model"], model, weights),
        cost={"peak_memory_mb": peak_memory_mb(device)},
    )
    tell(out)


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, so that the command line can override them."""
    run = argument("run")
    if run is None:
        raise RequestError("evaluate needs a run directory: robustml evaluate run=outputs/<name>/<time>")
    from robustml.commands.settings import read_settings, record

    settings = read_settings(Path(run))
    missing = [key for key in _RESTORED if key not in settings]
    if missing:
        raise RequestError(f"{run}/config.yaml lacks {', '.join(missing)}: it is no config of robustml train")
    restored = {key: settings[key] for key in _RESTORED}
    if argument("evaluation") is not None:
        del restored["evaluation"]  # chosen anew, not merged into the run's
    record(restored)


def _name(attack: dict[str, Any]) -> str:
    """What to call the one attack that the command line chose."""
    return str(attack.get("name") or str(attack["_target_"]).rpartition(".")[2]).lower()


def main() -> None:
    """Restore the run's settings, then compose evaluate.yaml over them."""
    import sys

    if any(word in ("--help", "-h", "--shell-completion", "-sc") for word in sys.argv):
        from robustml.commands.settings import record

        record({})  # help and completion need no run, but a config that composes
    else:
        report_failures(take_up_run)
    hydra_command(evaluate_run, "evaluate")


if __name__ == "__main__":
    main()
