"""Poison the training part of a DataModule, between decoding and batching."""

from __future__ import annotations

from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.poisoning.chain import Chain, reaching_validation
from robustml.poisoning.plan import Backdoor, Poison, PoisonPlan


def poison_training(data: DataModule, poison: Poison, *, seed: int) -> PoisonPlan:
    """Plan a poison for the training part, and apply it.

    The validation part stays clean, so that runs with and without poison are selected alike, unless the poison says
    ``poisons_validation``: some attacks assume that the attacker reaches everything that was collected.

    Args:
        data: set up or not.
        poison: what to do.
        seed: which records, and whatever else is drawn.

    Returns:
        The plan; its figures are of the training part.

    Raises:
        RequestError: the poison does not fit the data, or changes nothing.
    """
    data.setup()
    plan = poison.plan(data.train, seed=seed)
    far_reaching = reaching_validation(poison)
    if data.val is not None and far_reaching is not None:
        plan = plan.reaching(far_reaching.plan(data.val, seed=seed))
    apply_plan(data, plan)
    return plan


def apply_plan(data: DataModule, plan: PoisonPlan) -> None:
    """Replace the training part by the poisoned one; the fingerprint and `data.summary()` then tell of it.

    Raises:
        RequestError: the plan was made for another set, or the set is not what it says afterwards.
    """
    data.setup()
    train = plan.apply(data.train)
    if len(data.train) != plan.rows or train.fingerprint() != plan.poisoned_sha256:
        raise RequestError(
            f"the training part of {data.name} is not the one that was poisoned: records that the plan does not name "
            "were added, lost, altered, or changed their order"
        )
    data.train = train
    if data.val is not None:
        data.val = plan.apply(data.val)
    data.poison = plan.summary


def backdoor_of(poison: Poison | None) -> Backdoor | None:
    """The backdoor that a poison plants, if it plants one."""
    if isinstance(poison, Chain):
        return poison.backdoor
    return poison if isinstance(poison, Backdoor) else None
