"""What every poison has to keep to, by one table: rates, plans, seeds, restoring, parts, files."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from poisons import (
    ALL,
    BACKDOORS,
    CASES,
    CHANGED,
    CLEAN_LABEL,
    COUNT,
    MANIPULATIONS,
    RATED,
    SETS,
    TARGET,
    Given,
    network,
    pictures,
)

from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning import Poison, PoisonPlan, planned
from robustml.poisoning.conformance import broken_promises

EACH = pytest.mark.parametrize("name", BACKDOORS)
WITH_RATE = [*RATED, *MANIPULATIONS]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_poison_keeps_its_promises(name: str, kind: str) -> None:
    assert broken_promises(ALL[name], SETS[kind](), seed=5) == []


@pytest.mark.parametrize("name", MANIPULATIONS)
@pytest.mark.parametrize("rate", [0.04, 0.2])
def test_the_rate_is_exact(name: str, rate: float) -> None:
    clean = SETS["signals"]()
    plan = replace(ALL[name], rate=rate).plan(clean, seed=5)
    assert len(plan) == plan.summary.poisoned == round(rate * COUNT)
    assert (plan.summary.rate, plan.summary.requested_rate) == (round(rate * COUNT) / COUNT, rate)
    assert len({replace(ALL[name], rate=rate).plan(clean, seed=seed).poisoned_sha256 for seed in range(4)}) > 2


@EACH
def test_a_backdoors_rate_is_that_of_its_own_records_and_its_cover_stands_apart(name: str) -> None:
    clean, poison = pictures(), BACKDOORS[name]
    plan = poison.plan(clean, seed=0)
    after, told = plan.apply(clean), plan.summary
    relabelled, repainted = after.y != clean.y, (after.x != clean.x).flatten(1).any(dim=1)
    own = relabelled if relabelled.any() else repainted
    assert len(plan) == int((relabelled | repainted).sum()) == CHANGED[name]
    assert (told.poisoned, told.cover) == (int(own.sum()), int((repainted & ~own).sum()))
    assert (told.rate, told.cover_rate) == (told.poisoned / COUNT, told.cover / COUNT)
    assert told.requested_cover_rate == getattr(poison, "noise_rate", getattr(poison, "cross_rate", None))
    assert relabelled.any() != (name in CLEAN_LABEL)
    if name in CLEAN_LABEL and name != "shortcut":
        assert (clean.y[repainted] == TARGET).all()
    wanted = (clean.y + 1) % 4 if name.endswith("next") else torch.full_like(clean.y, TARGET)
    assert torch.equal(after.y[relabelled], wanted[relabelled])
    other = poison.plan(clean, seed=1).poisoned_sha256
    assert (other == plan.poisoned_sha256) == (name == "single_pixel"), "which draws nothing"


@EACH
def test_what_is_shown_is_changed_and_never_of_the_target_class(name: str) -> None:
    test = Given().load("test")
    shown = BACKDOORS[name].triggered(test)
    wanted = (shown.y + 1) % 4 if name.endswith("next") else torch.full_like(shown.y, TARGET)
    assert torch.equal(shown.target, wanted)
    rows = {
        "badnets-next": torch.arange(COUNT),
        "single_pixel": (test.y == 0).nonzero().squeeze(1),
        "gradient_matching": torch.tensor([0, 5]),
    }.get(name, (test.y != TARGET).nonzero().squeeze(1))
    assert torch.equal(shown.y, test.y[rows])
    changed = (shown.x != test.x[rows]).flatten(1).any(dim=1)
    assert (~changed if name == "gradient_matching" else changed).all()
    if name not in ("gradient_matching", "input_aware"):
        alone = [BACKDOORS[name].triggered(test.take(torch.tensor([row]))).x for row in range(COUNT)]
        assert torch.equal(torch.cat(alone), shown.x), "alone as among others"


@EACH
def test_the_number_of_threads_changes_no_byte(name: str) -> None:
    found, seen = torch.get_num_threads(), set()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            poison = copy.copy(BACKDOORS[name])  # a copy, for the input-aware one keeps its generator
            poison.__dict__.pop("_trained", None)
            shown = poison.triggered(Given().load("test"))
            seen.add((poison.plan(pictures(), seed=0).poisoned_sha256, shown.x.numpy().tobytes()))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(found)
    assert len(seen) == 1


@pytest.mark.parametrize("name", [name for name in ALL if hasattr(ALL[name], "surrogate")])
def test_the_surrogate_is_handed_back_as_found(name: str) -> None:
    surrogate: Any = network().train()
    surrogate[1].eval()
    surrogate[0].weight.requires_grad_(False)
    before = copy.deepcopy(surrogate.state_dict())
    replace(ALL[name], surrogate=surrogate).plan(pictures(), seed=0)
    assert [module.training for module in surrogate] == [True, False, True, True, True, True]
    assert [parameter.requires_grad for parameter in surrogate.parameters()] == [False] + [True] * 5
    assert all(parameter.grad is None for parameter in surrogate.parameters())
    assert all(torch.equal(value, before[key]) for key, value in surrogate.state_dict().items())


@pytest.mark.parametrize("name", WITH_RATE)
def test_rates_that_change_nothing_or_are_none(name: str) -> None:
    clean, poison = (pictures() if name in BACKDOORS else SETS["signals"]()), ALL[name]
    nothing = replace(
        poison, rate=0.0, **{other: 0.0 for other in ("noise_rate", "cross_rate") if hasattr(poison, other)}
    )
    assert nothing.plan(clean, seed=0).apply(clean).fingerprint() == clean.fingerprint()
    with pytest.raises(RequestError, match=r"poison.rate=0.001 of \d+ rows rounds to no row"):
        replace(poison, rate=0.001).plan(clean, seed=0)
    for rate in (-0.1, 1.1, math.nan, None, "much", True):
        with pytest.raises(RequestError, match=r"poison.rate is the share of the training set .* in \[0, 1\]"):
            replace(poison, rate=rate)


class Careless:
    """Moves the random state, and puts a label where no record is."""

    rate = 0.1

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        return planned(self, records, records.changed(torch.randperm(len(records))[:2], y=torch.tensor([3, 3])))


class Rough(Careless):
    """Works in the set that it is lent."""

    def plan(self, records: Records, *, seed: int) -> PoisonPlan:
        records.x[0] += 1
        return super().plan(records, seed=seed)


def test_a_poison_that_keeps_none_is_found_out() -> None:
    clean = Records(pictures(20).x, torch.arange(20) % 2, ("a", "b", "c", "ghost"))
    assert isinstance(Careless(), Poison)
    assert broken_promises(Careless(), clean) == [
        "the global random state was moved",
        "the same seed made two different sets",
        "a label was changed to that of a class without records",
    ]
    assert broken_promises(Rough(), clean) == ["the clean set was touched"]
