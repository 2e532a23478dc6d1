"""Look for marks that decide by themselves what the model of a run reads, told of none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from robustml.data import DataModule, Records
from robustml.errors import RequestError
from robustml.evaluation import find_shortcuts
from robustml.poisoning.pixels import in_unit_range
from robustml.reporting.figures.shortcuts import Suspect
from robustml.reporting.pages.shortcuts import suspects_text, write_shortcut_page
from robustml.results import ShortcutSearch, write_checked
from robustml.say import say
from robustml.workflows.measuring.backdoors import twin_of
from robustml.workflows.poison import poison_as_configured
from robustml.workflows.preparing import pick_device
from robustml.workflows.run import load_model
from robustml.workflows.settings import write_settings

__all__ = ["shortcuts"]


def shortcuts(settings: dict[str, Any], data: DataModule, out: Path) -> ShortcutSearch:
    """Search the training set of a run, and that of its clean twin, and write a directory beside the run.

    The twin shows what the search makes of a model without a mark: what it finds there is a false alarm.

    Args:
        settings: of the run, with `run`, `which`, `size`, `stride`, `pictures`, `threshold`, `seed` and `device`.
        data: those of the run, clean: the run's own plan poisons them again.
        out: gets config.yaml, shortcuts.json and shortcuts.html.

    Returns:
        What shortcuts.json holds.

    Raises:
        RequestError: a threshold that is no share, or data that are no pictures.
    """
    threshold = settings["threshold"]
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise RequestError(f"threshold is a share of pictures, in [0, 1]; got {threshold!r}")
    settings = settings | {"size": settings["size"] or max(2, min(data.shape[-2:]) // 8)}
    source, device = Path(settings["run"]), pick_device(settings["device"])
    options = {name: settings[name] for name in ("size", "stride", "pictures", "threshold", "seed")}
    clean = data.train
    poison_as_configured(data, settings, source)
    searches = {"this model": _search(load_model(source, settings["which"]).to(device), data.train, options)}
    twin = twin_of(source)
    if twin is not None:
        searches["clean twin"] = _search(load_model(twin).to(device), clean, options)
    write_settings(settings, out / "config.yaml")
    report = ShortcutSearch(
        run=str(source),
        twin=None if twin is None else str(twin),
        data=data.summary(),
        **{key: settings[key] for key in ("which", "seed", "size", "stride", "pictures", "threshold")},
        suspects=[each.figures for each in searches["this model"]],
        twin_suspects=[each.figures for each in searches.get("clean twin", [])],
    )
    write_checked(report, out / "shortcuts.json")
    page = write_shortcut_page(report, searches, out / "shortcuts.html")
    for name, suspects in searches.items():
        say(f"\n{name}:\n{suspects_text(suspects, threshold)}")
    if twin is None:
        say("\nno clean twin beside this run (twin=true trains one): how much such a search finds there is unknown")
    say(f"\nreport: {page}")
    say(f"run: {out}")
    return report


def _search(model: nn.Module, train: Records, options: Mapping[str, Any]) -> list[Suspect]:
    """The most suspect place of each class, the worst first, with what there is to draw of it."""

    def picture(row: int) -> Any:
        return in_unit_range(train.x[row]).cpu().numpy()

    found = find_shortcuts(model, train, **options)
    return [
        Suspect(each, picture(donor), picture(host), train.class_names[int(train.y[host])])
        for each in found
        for donor, host in [each.example]
    ]
