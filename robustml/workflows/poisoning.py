"""Poison the training part as the `poison` settings say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustml.data import DataModule, groups_of, stratified_rows
from robustml.errors import RequestError
from robustml.poisoning import Manifest, Poison, poison_training
from robustml.say import say
from robustml.workflows.building import build

__all__ = ["Poisoning", "poison_as_configured", "write_grid"]


@dataclass(frozen=True)
class Poisoning:
    """The poison of a run.

    Attributes:
        poison: what was done.
        manifest: what it did to the training part.
    """

    poison: Poison
    manifest: Manifest


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
        if poisoning is not None:
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
    for line in manifest.lines():
        say(f"poison: {line}")
    return Poisoning(poison, manifest)


def write_grid(manifest: Manifest, path: Path) -> None:
    """Draw some changed pictures: clean, poisoned, difference. Nothing where no picture was changed."""
    rows = stratified_rows(manifest.originals.y[: len(manifest.changed)], 8)
    clean, poisoned = manifest.originals.take(rows), manifest.poisoned.take(rows)
    if not len(rows) or clean.x.ndim != 4 or clean.x.shape[1] not in (1, 3):
        return
    from robustml.reporting.figures.poison_grid import write_poison_grid

    names = clean.class_names
    before, after = ([names[label] for label in part.y.tolist()] for part in (clean, poisoned))
    write_poison_grid(clean.x.cpu().numpy(), poisoned.x.cpu().numpy(), before, after, path)
