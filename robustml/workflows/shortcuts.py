"""Look for marks that decide by themselves what the model of a run reads, told of none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

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
from robustml.workflows.measuring.judging import environment
from robustml.workflows.poison import poison_as_configured
from robustml.workflows.preparing import pick_device
from robustml.workflows.run import Run, load_model, load_run
from robustml.workflows.settings import CONFIG, write_settings


def shortcuts(
    run: Run | str | Path,
    data: DataModule | None = None,
    *,
    out: str | Path,
    which: Literal["best", "last"] = "best",
    size: int | None = None,
    stride: int | None = None,
    pictures: int = 100,
    threshold: float = 0.6,
    seed: int = 0,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ShortcutSearch:
    """Search the training set of a run, and that of its clean twin, and write a directory beside the run.

    The twin shows what the search makes of a model without a mark: what it finds there is a false alarm.

    Args:
        run: whose model is looked into.
        data: those of the run, clean: the run's own plan poisons them again. The run's own by default.
        out: gets config.yaml, shortcuts.json and shortcuts.html.
        which: weights of the run.
        size: side of the patch in pixels; an eighth of the pictures' by default.
        stride: pixels from one place to the next; half of the size by default.
        pictures: of each class, whose patches are tried on as many of the others.
        threshold: found is a place that turns this share of pictures more than the class's median place does.
        seed: of the choice of pictures.
        device: where the models run; cuda by default where there is one.
        settings: what config.yaml is to say; by default the run's own with what was passed here.

    Returns:
        What shortcuts.json holds.

    Raises:
        RequestError: a threshold that is no share, or data that are no pictures.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise RequestError(f"threshold is a share of pictures, in [0, 1]; got {threshold!r}")
    run, out, where = run if isinstance(run, Run) else load_run(run), Path(out), pick_device(device)
    data, source = data or run.data, run.path
    size = size or max(2, min(data.shape[-2:]) // 8)
    options = {"size": size, "stride": stride, "pictures": pictures, "threshold": threshold, "seed": seed}
    told = dict(settings or run.settings) | options | {"which": which, "run": str(source)}
    clean = data.train
    poison_as_configured(data, told, source)
    model = run.model if which == "best" else load_model(source, which, trust=run.trust)
    searches = {"this model": _search(model.to(where), data.train, options)}
    twin = twin_of(source)
    if twin is not None:
        searches["clean twin"] = _search(load_model(twin).to(where), clean, options)
    write_settings(told, out / CONFIG)
    report = ShortcutSearch(
        run=str(source),
        twin=None if twin is None else str(twin),
        data=data.summary(),
        environment=environment(where),
        **{key: told[key] for key in ("which", "seed", "size", "stride", "pictures", "threshold")},
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
