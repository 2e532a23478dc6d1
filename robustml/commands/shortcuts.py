"""`robustml shortcuts run=<dir>`: look for marks that decide by themselves what a model reads, told of none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.hydra.of_a_run import command_on_a_run, settings_of_run
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import nn

    from robustml.data import Records
    from robustml.reporting.figures.shortcuts import Suspect

__all__ = ["main", "shortcuts", "take_up_run"]

# What is restored of a run. The rest of its config says how it was trained.
_RESTORED = ("name", "seed", "data")
_RESTORED_IF_THERE = ("poison", "balance")


def shortcuts(config: DictConfig) -> None:
    """Search the training set of a run, and that of its clean twin, and write a directory beside the run.

    It gets config.yaml, shortcuts.json and shortcuts.html. The twin shows what the search makes of a model without a
    mark: what it finds there is a false alarm.
    """
    from hydra.core.hydra_config import HydraConfig

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.files import write_text
    from robustml.reporting.pages.shortcuts import suspects_text, write_shortcut_page
    from robustml.say import say
    from robustml.workflows.measuring.backdoors import twin_of
    from robustml.workflows.poisoning import poison_as_configured
    from robustml.workflows.preparing import pick_device
    from robustml.workflows.run import load_model
    from robustml.workflows.settings import write_settings

    threshold = config.threshold
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise RequestError(f"threshold is a share of pictures, in [0, 1]; got {threshold!r}")
    data = build_data(config, Path(config.run))
    settings = plain(config)
    if settings["size"] is None:
        settings["size"] = max(2, min(data.shape[-2:]) // 8)
    source, device = Path(settings["run"]), pick_device(settings["device"])
    clean = data.train
    poison_as_configured(data, settings, source)
    searches = {"this model": _search(load_model(source, settings["which"]).to(device), data.train, settings)}
    twin = twin_of(source)
    if twin is not None:
        searches["clean twin"] = _search(load_model(twin).to(device), clean, settings)

    out = Path(HydraConfig.get().runtime.output_dir)
    write_settings(settings | {"overrides": list(HydraConfig.get().overrides.task)}, out / "config.yaml")
    report: dict[str, Any] = {
        "command": "shortcuts",
        "run": str(source),
        "twin": None if twin is None else str(twin),
        "data": data.summary().model_dump(),
        **{key: settings[key] for key in ("which", "seed", "size", "stride", "pictures", "threshold")},
        "suspects": [suspect.summary(threshold) for suspect in searches["this model"]],
        "twin_suspects": [suspect.summary(threshold) for suspect in searches.get("clean twin", [])],
    }
    write_text(out / "shortcuts.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    page = write_shortcut_page(searches, threshold, report["data"]["name"], str(source), out / "shortcuts.html")
    for name, suspects in searches.items():
        say(f"\n{name}:\n{suspects_text(suspects, threshold)}")
    if twin is None:
        say("\nno clean twin beside this run (twin=true trains one): how much such a search finds there is unknown")
    say(f"\nreport: {page}")
    say(f"run: {out}")


def _search(model: nn.Module, train: Records, settings: dict[str, Any]) -> list[Suspect]:
    """The most suspect place of each class, the worst first, with what there is to draw of it."""
    from robustml.evaluation import find_shortcuts
    from robustml.poisoning.pixels import in_unit_range
    from robustml.reporting.figures.shortcuts import Suspect
    from robustml.results import rate

    found = find_shortcuts(
        model,
        train,
        size=settings["size"],
        stride=settings["stride"],
        pictures=settings["pictures"],
        seed=settings["seed"],
    )
    suspects = []
    for each in found:
        donor, host = (in_unit_range(train.x[row]).cpu().numpy() for row in each.example)
        suspects.append(
            Suspect(
                class_name=each.class_name,
                place=each.place,
                size=each.size,
                flip_rate=rate(round(each.flip_rate * each.pictures), each.pictures),
                excess=each.excess,
                flip_rates=each.flip_rates,
                donor=donor,
                host=host,
                host_name=train.class_names[int(train.y[each.example[1]])],
            )
        )
    return suspects


def take_up_run() -> None:
    """Record the settings of `run=<dir>`, so that the command line can override them."""
    from robustml.commands.hydra.composing import record

    settings = settings_of_run("shortcuts", _RESTORED)
    record({key: settings[key] for key in (*_RESTORED, *_RESTORED_IF_THERE) if key in settings})


def main() -> None:
    """Restore the run's settings and compose shortcuts.yaml over them."""
    command_on_a_run(shortcuts, "shortcuts", take_up_run)


if __name__ == "__main__":
    main()
