"""What every poison has to keep to, tried on a set: for the tests of ours, and for whoever writes one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from robustml.data import Records
from robustml.poisoning.choose import classes_with_rows
from robustml.poisoning.compare import differ, matched
from robustml.poisoning.plan import Backdoor, Poison, PoisonPlan
from robustml.poisoning.plan_file import read_plan, write_plan

__all__ = ["broken_promises"]


def broken_promises(poison: Poison, records: Records, *, seed: int = 0, test: Records | None = None) -> list[str]:
    """Plan a poison and look at what it did; what it did wrong, in words.

    Args:
        poison: to try.
        records: the clean set, each record once.
        seed: of the plan.
        test: what a backdoor is shown on; `records` by default.
    """
    before, state = records.fingerprint(), torch.random.get_rng_state()
    plan, again = (poison.plan(records, seed=seed) for _ in range(2))
    if records.fingerprint() != before:
        return ["the clean set was touched"]
    found = list(_of_the_plan(plan, records, plan.apply(records)))
    if not torch.equal(torch.random.get_rng_state(), state):
        found.append("the global random state was moved")
    if again.poisoned_sha256 != plan.poisoned_sha256:
        found.append("the same seed made two different sets")
    asked = getattr(poison, "rate", None)
    if asked is not None and plan.summary.poisoned != round(asked * len(records)) and plan.summary.why is None:
        found.append(f"{plan.summary.poisoned} records are poisoned, {round(asked * len(records))} were asked for")
    if not torch.isin(plan.after.y, classes_with_rows(records)).all():
        found.append("a label was changed to that of a class without records")
    if isinstance(poison, Backdoor):
        shown = poison.triggered(records if test is None else test)
        if bool((shown.y == shown.target).any()):
            found.append("an input of the target's own class is shown")
    return found


def _of_the_plan(plan: PoisonPlan, records: Records, poisoned: Records) -> Iterator[str]:
    origins = matched(poisoned.ids, records.ids)
    kept = (origins >= 0).nonzero().squeeze(1)
    inputs, labels = differ(poisoned, kept, records, origins[kept])
    changed, added = int((inputs | labels).sum()), len(poisoned) - len(kept)
    counts = (changed, added, len(records) - len(kept))
    told = plan.summary
    if counts != (told.changed, told.added, told.deleted) or sum(counts) != len(plan):
        yield f"{counts} records were changed, added and deleted, the plan says otherwise"
    if poisoned.fingerprint() != plan.poisoned_sha256 or records.fingerprint() != plan.clean_sha256:
        yield "the digests are not those of the sets"
    restored = plan.restore(poisoned)
    if restored.fingerprint() != records.fingerprint() or not torch.equal(restored.ids, records.ids):
        yield "the clean set does not come back bit for bit"
    parts = [plan.apply(records.take(part)) for part in torch.split(torch.arange(len(records)), 7)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    if whole.fingerprint() != poisoned.fingerprint() or not torch.equal(whole.ids, poisoned.ids):
        yield "applied to parts it makes another set than applied to the whole"
    with tempfile.TemporaryDirectory() as folder:
        write_plan(plan, Path(folder) / "poison.parquet")
        read = read_plan(Path(folder) / "poison.parquet")
    if read.summary != told or list(read.entries()) != list(plan.entries()):
        yield "the plan is another one once it is written and read"
    elif read.apply(records).fingerprint() != poisoned.fingerprint():
        yield "the plan makes another set once it is written and read"
