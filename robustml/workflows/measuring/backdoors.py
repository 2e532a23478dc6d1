"""The backdoors that are in a model, by its run's own record, and what they do to it: measured by whoever judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.evaluation import backdoor_success, shortcut_reliance
from robustml.poisoning import Backdoor, Shortcut, backdoor_of, kind_of, read_learned, recalled
from robustml.reporting.runs import lying
from robustml.results import Backdoor as BackdoorBlock
from robustml.results import PoisonSummary, Rate, Reliance, Twin, read_results
from robustml.say import say
from robustml.workflows.poison import Poisoning
from robustml.workflows.run import PLAN, RESULTS, TROJAN, load_model
from robustml.workflows.settings import read_settings
from robustml.workflows.settings.building import build

# Of the figures of a poison, those of the block that they become.
_FIGURES = {"kind", "rate", "requested_rate", "cover_rate", "requested_cover_rate", "budget", "why"}


@dataclass(frozen=True)
class Planted:
    """A backdoor of a model.

    Attributes:
        backdoor: what the attacker shows.
        figures: of the poison that planted it: kind and rates, as in the `backdoor` block.
        twin: the run directory of the clean twin, to be shown the same.
        run: that whose training set was poisoned, where it is another one than the model's own.
    """

    backdoor: Backdoor
    figures: Mapping[str, Any]
    twin: Path | None = None
    run: Path | None = None


def planted_by(poisoning: Poisoning | None, twin: Path | None) -> list[Planted]:
    """What the poison of a run planted: one backdoor, or none."""
    backdoor = None if poisoning is None else backdoor_of(poisoning.poison)
    if poisoning is None or backdoor is None:
        return []
    return [Planted(backdoor, _figures(backdoor, poisoning.plan.summary), twin)]


def _figures(backdoor: Backdoor, summary: PoisonSummary | None) -> dict[str, Any]:
    kind = kind_of(backdoor)
    if summary is None:
        return {"kind": kind, "requested_rate": getattr(backdoor, "rate", None)}
    return summary.of_kind(kind).model_dump(include=_FIGURES)


def planted_in(run: Path) -> list[Planted]:
    """The backdoors in the model of a run: of its own poison, and of the runs that it was tuned from.

    Raises:
        RequestError: such a run is gone.
    """
    return _planted_in(run, ())


def inherited(settings: Mapping[str, Any], near: Path) -> list[Planted]:
    """Those of the run that `backdoor_of` names, whose weights a model began with.

    Args:
        settings: of the run that was tuned.
        near: where that lies; both may have been moved together.

    Raises:
        RequestError: that run is gone.
    """
    return _inherited(settings, near, ())


def _planted_in(run: Path, seen: tuple[Path, ...]) -> list[Planted]:
    if run.resolve() in seen:
        raise RequestError(f"{run}/config.yaml: backdoor_of leads back to where it began")
    settings = read_settings(run)
    if (run / TROJAN).is_file():
        return _planted_in(beneath(run, settings), (*seen, run.resolve()))
    found = _inherited(settings, run, (*seen, run.resolve()))
    learned = read_learned(run / PLAN) if (run / PLAN).is_file() else {}
    backdoor = backdoor_of(recalled(build(settings.get("poison")), learned))
    if backdoor is None:
        return found
    summary = read_results(run / RESULTS).data.poison if (run / RESULTS).is_file() else None
    return [Planted(backdoor, _figures(backdoor, summary), twin_of(run), run), *found]


def _inherited(settings: Mapping[str, Any], near: Path, seen: tuple[Path, ...]) -> list[Planted]:
    source = settings.get("backdoor_of")
    if source is None:
        return []
    if (run := lying(str(source), near)) is None:
        raise RequestError(
            f"{near} was tuned from {source}, whose backdoor it may still have, but that is gone: name where it lies "
            "now with backdoor_of=<run directory>, or measure without it with backdoor_of=null"
        )
    return _planted_in(run, seen)


def beneath(trojaned: Path, settings: Mapping[str, Any]) -> Path:
    """The run whose model a TrojanNet was put beside; it may have been moved with all that lies in it."""
    return trojaned.parent.parent if trojaned.parent.name == "trojans" else Path(str(settings["run"]))


def twin_of(run: Path) -> Path | None:
    """The clean twin that was trained beside a run, where its results name one; says so if that is gone."""
    if not (run / RESULTS).is_file():
        return None
    backdoor = read_results(run / RESULTS).backdoor
    if backdoor is None or backdoor.twin is None or backdoor.twin.run is None:
        return None
    folder = lying(backdoor.twin.run, run)
    if folder is None or not (folder / RESULTS).is_file():
        say(f"the clean twin of {run} is not at {backdoor.twin.run} any more: its figures are left out")
        return None
    return folder


def shown_on(planted: Sequence[Planted], data: DataModule) -> list[Planted]:
    """Those backdoors that can be shown on the data; says which cannot, and why."""
    found = []
    for each in planted:
        try:
            check_shown([each], data)
        except RequestError as error:
            say(f"not measured: {error}")
        else:
            found.append(each)
    return found


def check_shown(planted: Sequence[Planted], data: DataModule) -> None:
    """Refuse now what could not be shown to the model once it is trained or attacked.

    Raises:
        RequestError: the data are of other classes, or of a shape that a trigger does not fit.
    """
    for each in planted:
        try:
            each.backdoor.triggered(data.test.take(torch.arange(min(1, len(data.test)))))
        except RequestError as error:
            where = "" if each.run is None else f" of {each.run}, which this model began with,"
            remedy = "" if each.run is None else "; backdoor_of=null measures without it"
            raise RequestError(f"the backdoor{where} cannot be shown on {data.name}: {error}{remedy}") from error


def backdoor_figures(
    planted: Sequence[Planted],
    model: nn.Module,
    data: DataModule,
    evaluation: Mapping[str, Any],
    device: torch.device,
) -> BackdoorBlock | None:
    """The `backdoor` block of results.json; None where no backdoor was planted.

    Args:
        planted: in the model; the first is the block, the others stand in it as `inherited`.
        model: the trained model, on `device`.
        data: its test part is what the attacker's inputs are made of.
        evaluation: the settings with `limit` and `batch_size`.
        device: where to run.
    """
    blocks = [backdoor_block(each, model, data, evaluation, device) for each in planted]
    return blocks[0].model_copy(update={"inherited": blocks[1:]}) if blocks else None


def backdoor_block(
    planted: Planted, model: nn.Module, data: DataModule, evaluation: Mapping[str, Any], device: torch.device
) -> BackdoorBlock:
    """The figures of one backdoor; the arguments are those of `backdoor_figures`."""
    backdoor = planted.backdoor
    test = data.test if evaluation["limit"] is None else data.test.sample(evaluation["limit"])
    presented = backdoor.triggered(test)
    size = evaluation["batch_size"]
    wanted = sorted(set(presented.target.tolist()))
    twin = None
    if planted.twin is not None:
        other = load_model(planted.twin).to(device)
        twin = Twin(
            run=str(planted.twin),
            clean_accuracy=read_results(planted.twin / RESULTS).clean_accuracy,
            **dict(backdoor_success(other, presented, device=device, batch_size=size)),
        )
    block = BackdoorBlock(
        **planted.figures,
        target=backdoor.target,
        target_class=data.class_names[wanted[0]] if len(wanted) == 1 else None,
        planted_in=None if planted.run is None else str(planted.run),
        **dict(backdoor_success(model, presented, device=device, batch_size=size)),
        twin=twin,
        shortcut=_reliance(backdoor, model, test, device, size) if isinstance(backdoor, Shortcut) else None,
    )
    success = block.attack_success_rate
    where = "" if planted.run is None else f" planted in {planted.run}"
    meaning = "" if block.target_class is None else f" (target class {block.target_class})"
    beside = "" if twin is None else f"; of the clean twin {_percent(twin.attack_success_rate)}"
    say(f"backdoor{where}: success rate {_percent(success)} over {success.n} inputs of other classes{meaning}{beside}")
    return block


def _reliance(backdoor: Shortcut, model: nn.Module, test: Any, device: torch.device, size: int) -> Reliance:
    """How much the model relies on the mark."""
    reliance = shortcut_reliance(model, test, backdoor.trigger, backdoor.target, device=device, batch_size=size)
    worst = reliance.worst_group
    say(
        f"shortcut: accuracy {_percent(reliance.aligned_accuracy)} where the mark is as in training, "
        f"{_percent(worst.accuracy)} on the worst group ({worst.class_name}, {'with' if worst.marked else 'without'} "
        "the mark)"
    )
    return reliance


def _percent(share: Rate) -> str:
    return "unknown" if share.value is None else f"{share.value:.1%}"
