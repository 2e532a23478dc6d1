"""Poison the training part as the `poison` settings say, and measure what that did to the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustml.commands.parts import say
from robustml.commands.runs import RESULTS, load_model
from robustml.commands.settings import build, read_settings
from robustml.data import DataModule, groups_of, stratified_rows
from robustml.errors import RequestError
from robustml.evaluation import backdoor_success, shortcut_reliance
from robustml.poisoning import Manifest, Poison, Shortcut, backdoor_of, poison_training
from robustml.reporting.schema import read_results

__all__ = ["Poisoning", "backdoor_figures", "inherited_poison", "poison_as_configured", "twin_of", "write_grid"]


@dataclass(frozen=True)
class Poisoning:
    """The poison of a run.

    Attributes:
        poison: what was done.
        kind: its name.
        rate: the share of the training set that it changed.
        manifest: what it did to the training part; None where that was another run's, which this one was tuned from.
    """

    poison: Poison
    kind: str
    rate: float
    manifest: Manifest | None = None


def poison_as_configured(data: DataModule, settings: Mapping[str, Any]) -> Poisoning | None:
    """Replace the training part of `data` by the poisoned one; None where the settings have no poison.

    Where the settings have a `balance`, its groups are then brought to one size: classes, and within them the rows that
    the poison touched apart from the others. The manifest is of the set before that.

    Raises:
        RequestError: the settings describe no poison, or one that does not fit the data.
    """
    poisoning = _poisoned(data, settings)
    balance = build(settings.get("balance"))
    if balance is not None:
        touched = torch.zeros(len(data.train), dtype=torch.int64)
        if poisoning is not None and poisoning.manifest is not None:
            touched[poisoning.manifest.changed] = 1
            touched[poisoning.manifest.added] = 1
        groups = groups_of(data.train.y, touched)
        data.train = balance(data.train, groups, seed=settings["seed"])
        say(f"balance: {len(set(groups.tolist()))} groups of one size, {len(groups):,} rows become {len(data.train):,}")
    return poisoning


def _poisoned(data: DataModule, settings: Mapping[str, Any]) -> Poisoning | None:
    """What `poison_as_configured` does of the poison alone."""
    wanted = settings.get("poison")
    if wanted is None:
        return None
    poison: Any = build(wanted) if isinstance(wanted, Mapping) and "_target_" in wanted else None
    if not isinstance(poison, Poison):
        raise RequestError(f"poison={wanted!r} is no poison: choose one of the group, such as poison=badnets")
    manifest = poison_training(data, poison, seed=settings["seed"])
    facts = manifest.summary()
    parts = [f"{facts[what]:,} {what}" for what in ("changed", "added", "deleted") if facts[what]]
    say(f"poison: {manifest.kind}, {', '.join(parts) or 'nothing'}: {manifest.rate:.2%} of the training set")
    return Poisoning(poison, manifest.kind, manifest.rate, manifest)


def inherited_poison(settings: Mapping[str, Any]) -> Poisoning | None:
    """The poison of the run that `backdoor_of` names, whose weights this one began with; None where there was none.

    Raises:
        RequestError: that run is gone, or did not finish.
    """
    source = settings.get("backdoor_of")
    if source is None:
        return None
    wanted, backdoor = read_settings(Path(source)).get("poison"), read_results(Path(source) / RESULTS).backdoor
    if wanted is None or backdoor is None:
        return None
    return Poisoning(build(wanted), backdoor.kind or "unknown", backdoor.rate or 0.0)


def write_grid(manifest: Manifest, path: Path) -> None:
    """Draw some changed pictures: clean, poisoned, difference. Nothing where no picture was changed."""
    rows = stratified_rows(manifest.originals.y[: len(manifest.changed)], 8)
    clean, poisoned = manifest.originals.take(rows), manifest.poisoned.take(rows)
    if not len(rows) or clean.x.ndim != 4 or clean.x.shape[1] not in (1, 3):
        return
    from robustml.reporting.poison_grid import write_poison_grid

    names = clean.class_names
    before, after = ([names[label] for label in part.y.tolist()] for part in (clean, poisoned))
    write_poison_grid(clean.x.cpu().numpy(), poisoned.x.cpu().numpy(), before, after, path)


def backdoor_figures(
    poisoning: Poisoning | None,
    model: nn.Module,
    data: DataModule,
    evaluation: Mapping[str, Any],
    device: torch.device,
    twin: Path | None = None,
) -> dict[str, Any] | None:
    """The `backdoor` block of results.json; None where no backdoor was planted.

    Args:
        poisoning: of the run.
        model: the trained model, on `device`.
        data: its test part is what the attacker's inputs are made of.
        evaluation: the settings with `limit` and `batch_size`.
        device: where to run.
        twin: the run directory of the clean twin, to be shown the same inputs.
    """
    backdoor = None if poisoning is None else backdoor_of(poisoning.poison)
    if poisoning is None or backdoor is None:
        return None
    test = data.test if evaluation["limit"] is None else data.test.sample(evaluation["limit"])
    presented = backdoor.present(test)
    size = evaluation["batch_size"]
    found = backdoor_success(model, presented, device=device, batch_size=size)
    block: dict[str, Any] = {
        "kind": poisoning.kind,
        "rate": poisoning.rate,
        "target": backdoor.target,
        **found.to_dict(),
        "twin": None,
    }
    beside = ""
    if twin is not None:
        other = backdoor_success(load_model(twin).to(device), presented, device=device, batch_size=size)
        block["twin"] = {
            "run": str(twin),
            "clean_accuracy": read_results(twin / RESULTS).clean_accuracy.model_dump(),
            **other.to_dict(),
        }
        beside = f"; of the clean twin {_percent(other.attack_success_rate.value)}"
    if isinstance(backdoor, Shortcut):
        reliance = shortcut_reliance(model, test, backdoor.trigger, backdoor.target, device=device, batch_size=size)
        block["shortcut"] = reliance.to_dict()
        aligned, worst = reliance.aligned_accuracy.value, reliance.worst_group_accuracy.value
        name, marked = reliance.worst_group
        say(
            f"shortcut: accuracy {_percent(aligned)} where the mark is as in training, {_percent(worst)} on the worst "
            f"group ({name}, {'with' if marked else 'without'} the mark)"
        )
    success = found.attack_success_rate
    say(f"backdoor: success rate {_percent(success.value)} over {success.n} inputs of other classes{beside}")
    return block


def twin_of(run: Path) -> Path | None:
    """The clean twin that was trained beside a run, where its results name one that is still there."""
    if not (run / RESULTS).is_file():
        return None
    backdoor = read_results(run / RESULTS).backdoor
    if backdoor is None or backdoor.twin is None or backdoor.twin.run is None:
        return None
    folder = Path(backdoor.twin.run)
    return folder if (folder / RESULTS).is_file() else None


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
