"""What every poison has to keep to, tried on a set: for the tests of ours, and for whoever writes one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from robustml.data import Records
from robustml.poisoning.chain import recalled
from robustml.poisoning.choose import classes_with_rows
from robustml.poisoning.compare import differ, matched
from robustml.poisoning.plan import Backdoor, Poison, PoisonPlan
from robustml.poisoning.plan_file import read_plan, write_plan


class Promise(NamedTuple):
    """Something that a poison has to keep to, in a few words, and how it broke it; None where it did not."""

    name: str
    broken: str | None


def promises(poison: Poison, records: Records, *, seed: int = 0, test: Records | None = None) -> Iterator[Promise]:
    """Plan a poison and look at what it did, promise by promise; where the clean set was touched, that is the last.

    Args:
        poison: to try.
        records: the clean set, each record once.
        seed: of the plan.
        test: what a backdoor is shown on; `records` by default.
    """
    before, state = records.fingerprint(), torch.random.get_rng_state()
    plan, again = (poison.plan(records, seed=seed) for _ in range(2))
    moved = not torch.equal(torch.random.get_rng_state(), state)
    touched = records.fingerprint() != before
    yield _promise("clean set left as it was", touched, "the clean set was touched")
    if touched:
        return
    poisoned = plan.apply(records)
    yield from _of_the_figures(plan, records, poisoned)
    restored = plan.restore(poisoned)
    lost = restored.fingerprint() != before or not torch.equal(restored.ids, records.ids)
    yield _promise("restored bit for bit", lost, "the clean set does not come back bit for bit")
    parts = [plan.apply(records.take(part)) for part in torch.split(torch.arange(len(records)), 7)]
    ids = torch.cat([part.ids for part in parts])
    joined = Records(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]), records.class_names)
    other = joined.fingerprint() != poisoned.fingerprint() or not torch.equal(ids, poisoned.ids)
    yield _promise("part by part as a whole", other, "applied to parts it makes another set than applied to the whole")
    with tempfile.TemporaryDirectory() as folder:
        write_plan(plan, Path(folder) / "poison.parquet")
        read = read_plan(Path(folder) / "poison.parquet")
    broken = None
    if read.summary != plan.summary or list(read.entries()) != list(plan.entries()):
        broken = "the plan is another one once it is written and read"
    elif read.apply(records).fingerprint() != poisoned.fingerprint():
        broken = "the plan makes another set once it is written and read"
    yield Promise("written and read", broken)
    yield _promise("global random state", moved, "the global random state was moved")
    differs = again.poisoned_sha256 != plan.poisoned_sha256
    yield _promise("same seed, same set", differs, "the same seed made two different sets")
    if (asked := getattr(poison, "rate", None)) is not None:
        done, count = plan.summary.poisoned, round(asked * len(records))
        wrong = done != count and plan.summary.why is None
        yield _promise("rate", wrong, f"{done} records are poisoned, {count} were asked for")
    ghost = not torch.isin(plan.after.y, classes_with_rows(records)).all()
    yield _promise("labels of classes with records", ghost, "a label was changed to that of a class without records")
    if isinstance(poison, Backdoor):
        test = records if test is None else test
        shown, recall = poison.triggered(test), recalled(poison, read.learned).triggered(test)
        own = bool((shown.y == shown.target).any())
        yield _promise("shows no input of its target", own, "an input of the target's own class is shown")
        same = all(torch.equal(one, two) for one, two in zip(shown, recall, strict=True))
        yield _promise("same triggers from the plan", not same, "by its plan it shows other inputs than before")


def broken_promises(poison: Poison, records: Records, *, seed: int = 0, test: Records | None = None) -> list[str]:
    """What a poison did wrong, in words; the arguments are those of `promises`."""
    found = promises(poison, records, seed=seed, test=test)
    return [promise.broken for promise in found if promise.broken is not None]


def _of_the_figures(plan: PoisonPlan, records: Records, poisoned: Records) -> Iterator[Promise]:
    origins = matched(poisoned.ids, records.ids)
    kept = (origins >= 0).nonzero().squeeze(1)
    inputs, labels = differ(poisoned, kept, records, origins[kept])
    counts = (int((inputs | labels).sum()), len(poisoned) - len(kept), len(records) - len(kept))
    wrong = counts != (plan.summary.changed, plan.summary.added, plan.summary.deleted) or sum(counts) != len(plan)
    told = f"{counts} records were changed, added and deleted, the plan says otherwise"
    yield _promise("figures of the plan", wrong, told)
    digests = (plan.poisoned_sha256, plan.clean_sha256) != (poisoned.fingerprint(), records.fingerprint())
    yield _promise("digests of the plan", digests, "the digests are not those of the sets")


def _promise(name: str, is_broken: bool, broken: str) -> Promise:
    return Promise(name, broken if is_broken else None)
