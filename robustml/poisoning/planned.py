"""A plan out of the set before and the set after, and the figures of what was done."""

from __future__ import annotations

import torch
from torch import Tensor

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning.compare import differ, matched
from robustml.poisoning.plan import Backdoor, Poison, PoisonPlan
from robustml.results import Budget, Dose, PoisonSummary

__all__ = ["kind_of", "planned"]

_NO_IDS = torch.empty(0, dtype=torch.int64)


def planned(
    poison: Poison,
    clean: Records,
    poisoned: Records,
    *,
    cover: Tensor = _NO_IDS,
    requested_cover: float | None = None,
    budget: Budget | None = None,
    notes: tuple[str, ...] = (),
    parts: tuple[Dose, ...] = (),
) -> PoisonPlan:
    """The plan that makes `poisoned` out of `clean`.

    Args:
        poison: whose it is; says what was asked for (`rate`), and whether it is a backdoor.
        clean: the set before, each record once.
        poisoned: the set after. Records keep their id and their order; those that are added stand at the end.
        cover: ids (K,) of records that were changed beside the poison's own so that it works or hides better.
        requested_cover: the share of the set that those were to be.
        budget: of crafted changes.
        notes: what else a reader of the figures must know.
        parts: the figures of each of several poisons in turn.

    Raises:
        RequestError: records are there twice, or out of order; or records were to be changed and none is, or none of
            them shows the trigger.
    """
    kind = kind_of(poison)
    if len(torch.unique(clean.ids)) != len(clean):
        raise RequestError(
            f"{kind}: a set to be poisoned must hold every record once: poison it first, resample it then"
        )
    origins = matched(poisoned.ids, clean.ids)
    kept = (origins >= 0).nonzero().squeeze(1)
    if bool((origins[: len(kept)] < 0).any()) or bool((origins[kept].diff() <= 0).any()):
        raise RequestError(f"{kind}: records must stay in their order, each once, and added ones stand at the end")
    inputs, labels = differ(poisoned, kept, clean, origins[kept])
    changed = inputs | labels
    is_left = torch.zeros(len(clean), dtype=torch.bool)
    is_left[origins[kept]] = True
    places = torch.cat([origins[kept][changed], (~is_left).nonzero().squeeze(1)])
    is_cover = torch.isin(poisoned.ids[kept][changed], cover)
    added = torch.arange(len(kept), len(poisoned))
    count = len(places) + len(added) - int(is_cover.sum())
    backdoor = isinstance(poison, Backdoor)
    requested: float | None = getattr(poison, "rate", None)
    asked = None if requested is None else round(requested * len(clean))
    label_only = int((~inputs[changed] & ~is_cover).sum()) if backdoor else 0
    if not count and asked != 0 and (backdoor or asked is not None):
        raise RequestError(
            f"poison: {kind} changes no row, since all that were drawn looked so before: choose other settings"
        )
    if count and label_only == count:
        raise RequestError(
            f"poison: the trigger of {kind} changes nothing in any of the {count:,} rows: choose another value, "
            "place or strength"
        )
    reasons = []
    if asked is not None and count != asked:
        reasons.append(f"{asked - count:,} of the {asked:,} rows drawn looked so before")
    if requested_cover is not None and (gap := round(requested_cover * len(clean)) - int(is_cover.sum())):
        reasons.append(f"{gap:,} of the cover's rows looked so before")
    if label_only:
        reasons.append(f"on {label_only:,} of the {count:,} rows the trigger changes nothing but the label")
    if budget is not None and abs(budget.stored - budget.asked) > 1e-5 * budget.asked:
        reasons.append(f"{budget.name} {budget.asked:.4g} asked for, at most {budget.stored:.4g} as stored")
    summary = PoisonSummary(
        kind=kind,
        rate=count / len(clean),
        requested_rate=requested,
        poisoned=count,
        cover=int(is_cover.sum()),
        cover_rate=int(is_cover.sum()) / len(clean),
        requested_cover_rate=requested_cover,
        budget=budget,
        why="; ".join([*reasons, *notes]) or None,
        changed=int(changed.sum()),
        added=len(added),
        deleted=int((~is_left).sum()),
        parts=parts,
    )
    return PoisonPlan(
        summary=summary,
        before=clean.take(places),
        after=poisoned.take(torch.cat([kept[changed], added])),
        places=places,
        cover=poisoned.ids[kept][changed][is_cover],
        last=int(clean.ids[-1]),
        rows=len(clean),
        clean_sha256=clean.fingerprint(),
        poisoned_sha256=poisoned.fingerprint(),
    )


def kind_of(poison: Poison) -> str:
    """What to call a poison: the file that it is in (one paper a file), or the kinds of several in turn."""
    several = getattr(poison, "poisons", None)
    return "+".join(map(kind_of, several.values())) if several else type(poison).__module__.rpartition(".")[2]
