"""Poison the training part: as settings say, as the plan of a run does, or into a set for use elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robustml.data import DataModule, groups_of, stratified_rows
from robustml.errors import RequestError
from robustml.evaluation.batches import Loader
from robustml.files import sweep
from robustml.poisoning import Poison, PoisonPlan, apply_plan, poison_training, read_plan, recalled
from robustml.poisoning.files import restored_set, write_poisoned_set, write_set
from robustml.say import say
from robustml.untrusted import read_yaml
from robustml.workflows.given import data_of
from robustml.workflows.integrity.auditing import audits
from robustml.workflows.reading.version_0_1 import check_old_manifest, is_old_set, restored_old_set
from robustml.workflows.run import PLAN
from robustml.workflows.settings import CONFIG, write_settings
from robustml.workflows.settings.building import build
from robustml.workflows.settings.describing import described


class Poisoning(NamedTuple):
    """The poison of a run, and what it does to the training part."""

    poison: Poison
    plan: PoisonPlan


@audits("poisoned", into="out", files=(PLAN, "train.parquet", "test.parquet"))
def poison(
    data: DataModule | Loader,
    poison: Poison,
    *,
    out: str | Path,
    test: Loader | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> PoisonPlan:
    """Write a poisoned set for use elsewhere: both parts, the plan and a picture of what changed.

    The settings are written first and the plan last. A folder that has the same settings and no plan is of the same
    call, which was interrupted: it is written anew. One that is complete is left as it is.

    Args:
        data: a data set of single examples, or a DataModule without a validation part, which is poisoned in place.
        poison: what an attacker does to the training part.
        out: the folder.
        test: the test part of a data set; by default a fifth of it.
        class_names: of a data set, one a class, in label order.
        seed: of the choice of records and all that is drawn.
        settings: what config.yaml is to say; by default what was passed here, as far as settings can say it.

    Returns:
        The plan, which `apply` brings to the clean records and `restore` takes back.

    Raises:
        RequestError: the folder holds something else, or the poison does not fit the data.
    """
    out, parts = Path(out), data_of(data, test, class_names=class_names, val_size=0)
    _check_free(out)
    told = dict(settings or described({"data": parts, "poison": poison, "seed": seed}))
    plan = _there(out, told, parts)
    if plan is not None:
        say(f"{out} holds this poisoned set already, complete with its {PLAN}")
    else:
        plan = _told(poison_training(parts, _checked(poison), seed=seed))
        write_settings(told, out / CONFIG)
        write_grid(plan, out / "grid.png")
        write_poisoned_set(parts.train, parts.test, plan, out)
        say(f"wrote {len(parts.train):,} training and {len(parts.test):,} test records, and {PLAN}")
    say(f"run: {out}")
    return plan


@audits("restored", into="out")
def restore(folder: str | Path, out: str | Path) -> None:
    """Rebuild the clean training set of a folder that `poison` wrote, this version's or an older one's, into a file.

    Args:
        folder: with the poisoned set and its plan.
        out: the Parquet file to write.

    Raises:
        RequestError: the file is there already; or the folder is incomplete, or was altered.
    """
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise RequestError(f"out={out} exists already: choose another file")
    clean = restored_old_set(folder) if is_old_set(folder) else restored_set(folder)
    write_set(clean, out)
    say("verified: all entries are there, and every record of all parts, and the set restored, is as they say")
    say("this shows that the files fit together, not who wrote them: the plan is not signed")
    say(f"restored {len(clean):,} clean records: {out}")


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
    poison = _checked(build(wanted) if isinstance(wanted, Mapping) and "_target_" in wanted else wanted)
    if run is None or not (run / PLAN).is_file():
        plan = poison_training(data, poison, seed=settings["seed"])
        if run is not None:
            check_old_manifest(run, plan)
    else:
        plan = read_plan(run / PLAN)
        poison = recalled(poison, plan.learned)
        try:
            apply_plan(data, plan)
        except RequestError as error:
            if not other_data:
                raise RequestError(f"{run / PLAN} cannot be applied: {error}") from error
            say(f"note:   the training part is left as it is, without the poison of {run}: {error}")
            data.poison = plan.summary
    return Poisoning(poison, _told(plan))


def _checked(poison: Any) -> Poison:
    if not isinstance(poison, Poison):
        raise RequestError(f"poison={poison!r} is no poison: choose one of the group, such as poison=badnets")
    return poison


def _told(plan: PoisonPlan) -> PoisonPlan:
    for line in plan.summary.lines():
        say(f"poison: {line}")
    return plan


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


def _check_free(out: Path) -> None:
    """Refuse a folder that holds anything but what an earlier call of this command began.

    Raises:
        RequestError: it is no folder, or somebody else's.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise RequestError(f"out={out} exists already and is no folder: choose another one")
    sweep(out)
    if any(out.iterdir()) and not (out / CONFIG).is_file():
        raise RequestError(f"out={out} exists already and holds something else: choose another folder")


def _there(out: Path, settings: Mapping[str, Any], data: DataModule) -> PoisonPlan | None:
    """The plan of the set that the folder holds complete; None where it holds none, or only a part.

    Raises:
        RequestError: it is of other settings, or of other data.
    """
    if not (out / CONFIG).is_file():
        return None
    try:
        before = dict(read_yaml(out / CONFIG))  # compared, never built
    except (TypeError, ValueError) as error:
        raise RequestError(f"out={out} holds a {CONFIG} that cannot be read: choose another folder") from error
    if differing := sorted(key for key in {*before, *settings} - {"out"} if before.get(key) != settings.get(key)):
        raise RequestError(
            f"out={out} exists already, of another command: {', '.join(differing)} differ: choose another folder"
        )
    if not (out / PLAN).is_file():
        return None
    plan = read_plan(out / PLAN)
    if (plan.clean_sha256, plan.test_sha256) != (data.train.fingerprint(), data.test.fingerprint()):
        raise RequestError(f"out={out} exists already, of other data than {data.name} is now: choose another folder")
    return plan
