"""Poison the training part as the `poison` settings say, or as the plan of a run does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robustml.data import DataModule, groups_of, stratified_rows
from robustml.errors import RequestError
from robustml.poisoning import Poison, PoisonPlan, apply_plan, poison_training, read_plan
from robustml.say import say
from robustml.workflows.building import build
from robustml.workflows.run import PLAN
from robustml.workflows.version_0_1 import check_old_manifest

__all__ = ["Poisoning", "poison_as_configured", "write_grid"]


class Poisoning(NamedTuple):
    """The poison of a run, and what it does to the training part."""

    poison: Poison
    plan: PoisonPlan


def poison_as_configured(
    data: DataModule, settings: Mapping[str, Any], run: Path | None = None, *, other_data: bool = False
) -> Poisoning | None:
    """Replace the training part of `data` by the poisoned one; None where the settings have no poison.

    Where the settings have a `balance`, its groups are then brought to one size: classes, and within them the records
    that the poison touched apart from the others.

    Args:
        data: set up, and clean.
        settings: with `poison`, `balance` and `seed`.
        run: a run directory. Its plan is applied where it has one: nothing is chosen or crafted twice.
        other_data: the data may be others than those of the run. They are left as they are then, and that is said.

    Raises:
        RequestError: the settings describe no poison, or one that does not fit the data.
    """
    poisoning = _poisoned(data, settings, run, other_data)
    balance = build(settings.get("balance"))
    if balance is not None:
        touched = torch.zeros(len(data.train), dtype=torch.int64)
        if poisoning is not None:
            touched[torch.isin(data.train.ids, poisoning.plan.after.ids)] = 1
        groups = groups_of(data.train.y, touched)
        data.train = balance(data.train, groups, seed=settings["seed"])
        say(f"balance: {len(set(groups.tolist()))} groups of one size, {len(groups):,} rows become {len(data.train):,}")
    return poisoning


def _poisoned(data: DataModule, settings: Mapping[str, Any], run: Path | None, other_data: bool) -> Poisoning | None:
    """What `poison_as_configured` does of the poison alone."""
    wanted = settings.get("poison")
    if wanted is None:
        return None
    poison: Any = build(wanted) if isinstance(wanted, Mapping) and "_target_" in wanted else wanted
    if not isinstance(poison, Poison):
        raise RequestError(f"poison={wanted!r} is no poison: choose one of the group, such as poison=badnets")
    if run is None or not (run / PLAN).is_file():
        plan = poison_training(data, poison, seed=settings["seed"])
        if run is not None:
            check_old_manifest(run, plan)
    else:
        plan = read_plan(run / PLAN)
        try:
            apply_plan(data, plan)
        except RequestError as error:
            if not other_data:
                raise RequestError(f"{run / PLAN} cannot be applied: {error}") from error
            say(f"note:   the training part is left as it is, without the poison of {run}: {error}")
            data.poison = plan.summary
    for line in plan.summary.lines():
        say(f"poison: {line}")
    return Poisoning(poison, plan)


def write_grid(plan: PoisonPlan, path: Path) -> None:
    """Draw some changed pictures: clean, poisoned, difference. Nothing where no picture was changed."""
    both = [(entry.before, entry.after) for entry in plan.entries() if None not in (entry.before, entry.after)]
    places = torch.tensor(both, dtype=torch.int64).view(-1, 2)
    before, after = (part.take(rows) for part, rows in zip((plan.before, plan.after), places.T, strict=True))
    rows = stratified_rows(before.y, 8)
    clean, poisoned = before.take(rows), after.take(rows)
    if not len(rows) or clean.x.ndim != 4 or clean.x.shape[1] not in (1, 3):
        return
    from robustml.reporting.figures.poison_grid import write_poison_grid

    names = clean.class_names
    old, new = ([names[label] for label in part.y.tolist()] for part in (clean, poisoned))
    write_poison_grid(clean.x.cpu().numpy(), poisoned.x.cpu().numpy(), old, new, path)
