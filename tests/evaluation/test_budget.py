"""An attack that does not use its budget is no evidence; and a run has one worst case, wherever it is drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import APGD, DDN, FGSM, FMN, PGD, AutoAttack, Square, TorchAttack, Transfer
from robustml.errors import RequestError
from robustml.evaluation import accuracy_curve, evaluate, united
from robustml.threats import LpBall, Union
from robustml.types import Attack

THREAT = LpBall("inf", 0.1)
SMALL = PGD(LpBall("inf", 0.001), steps=3)


class Holding:
    """An attack of one's own that has another one inside."""

    def __init__(self, inner: Any) -> None:
        self.parts = {"inner": inner}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        x_adv: Tensor = self.parts["inner"](model, x, y, generator=generator)
        return x_adv


@pytest.mark.parametrize(
    "attack",
    [
        lambda model: SMALL,
        lambda model: PGD(LpBall("inf", 0.099), steps=3),
        lambda model: PGD(LpBall("inf", 0.1, (0.2, 0.8)), steps=3),
        lambda model: AutoAttack(LpBall("inf", 0.05)),
        lambda model: FMN(LpBall("inf", 0.05)),
        lambda model: TorchAttack("PGD", LpBall("inf", 0.05)),
        lambda model: Transfer(model, SMALL),
        lambda model: Holding(SMALL),
        lambda model: functools.partial(SMALL),
    ],
)
def test_an_attack_that_was_built_for_less_is_refused(attack: Callable[[nn.Module], Any], digits_net: Any) -> None:
    model, test = digits_net
    with pytest.raises(RequestError, match=r"attack 'weak' was built for .*, the threat"):
        evaluate(model, [test], {"fgsm": FGSM(THREAT), "weak": attack(model)}, THREAT)


def test_a_package_attack_takes_its_budget_from_the_threat() -> None:
    for params in ({"eps": 0.001}, {"norm": "L2"}):
        with pytest.raises(RequestError, match="follows from the threat"):
            TorchAttack("AutoAttack", THREAT, params)
    TorchAttack("PGD", THREAT, {"eps": 0.1, "steps": 2})


def test_an_attack_in_a_ball_of_another_norm_is_flagged_and_one_of_a_union_is_not(digits_net: Any) -> None:
    model, test = digits_net
    inside = PGD(LpBall(2, 0.1), steps=3)
    flags = evaluate(model, [test], {"l2": inside}, THREAT).flags
    assert {(flag.name, flag.attack) for flag in flags} == {("budget_not_used", "l2")}
    assert "L2 ball of eps=0.1" in flags[0].message
    union = Union([THREAT, LpBall(2, 0.5)])
    members: dict[str, Attack] = {"linf": PGD(THREAT, steps=3), "l2": PGD(LpBall(2, 0.5), steps=3)}
    assert evaluate(model, [test], members, union).flags == []
    with pytest.raises(RequestError, match=r"'l2' was built for eps=0\.1"):
        evaluate(model, [test], members | {"l2": inside}, union)


def undeclared(attack: Any) -> Attack:
    """A function, which says nothing of its budget."""
    return lambda model, x, y, generator=None: attack(model, x, y, generator=generator)


UNUSED: dict[str, tuple[Any, LpBall]] = {
    "a hundredth": (undeclared(SMALL), THREAT),
    "one half": (undeclared(PGD(LpBall("inf", 0.05), steps=5)), THREAT),
    "one half, minimum norm": (undeclared(FMN(LpBall("inf", 0.05), steps=20)), THREAT),
    "one half, fooled ones leave": (undeclared(PGD(LpBall("inf", 0.05), steps=5, early_stop=True)), THREAT),
    "one half in L2": (undeclared(PGD(LpBall(2, 0.5), steps=5)), LpBall(2, 1.0)),
    "one half in L1": (undeclared(PGD(LpBall(1, 1.5), steps=5)), LpBall(1, 3.0)),
    "steps that do not reach": (PGD(THREAT, steps=5, step_size=0.002, random_start=False), THREAT),
    "the images themselves": (undeclared(lambda model, x, y, generator: x), THREAT),
}


@pytest.mark.parametrize("case", UNUSED)
@pytest.mark.parametrize("cascade", [False, True])
def test_what_stays_far_below_the_budget_is_flagged_with_the_figure(case: str, cascade: bool, digits_net: Any) -> None:
    model, test = digits_net
    attack, threat = UNUSED[case]
    results = evaluate(model, [test], {"weak": attack}, threat, cascade=cascade)
    assert [(flag.name, flag.attack) for flag in results.flags] == [("budget_not_used", "weak")]
    largest = results.verdicts.attacks["weak"].distance.max()
    assert "as it was" in results.flags[0].message if largest == 0 else f"{threat.eps:.6g}" in results.flags[0].message


@pytest.mark.parametrize("p", ["inf", 2, 1])
@pytest.mark.parametrize("share", [0.02, 1.0])
def test_attacks_that_use_their_budget_raise_nothing(p: Any, share: float, digits_net: Any) -> None:
    model, (x, y) = digits_net
    threat = LpBall(p, share * {"inf": 0.15, 2: 1.0, 1: 3.0}[p])
    attacks: dict[str, Attack] = {
        "fgsm": FGSM(threat),
        "pgd": PGD(threat, steps=8),
        "bim": PGD(threat, steps=8, random_start=False, early_stop=True),
        "fmn": FMN(threat, steps=15),
        "apgd": APGD(threat, steps=8),
        "square": Square(threat, queries=30),
        "own": undeclared(PGD(threat, steps=8)),
    }
    if p == 2:
        attacks |= {"ddn": DDN(threat, steps=15), "cw": TorchAttack("CW", threat, {"steps": 5})}
    flags = evaluate(model, [(x[:80], y[:80])], attacks, threat).flags
    assert [flag for flag in flags if flag.name == "budget_not_used"] == []


def test_what_the_box_cuts_off_was_never_in_the_budget(digits_net: Any) -> None:
    """In the middle of the box nothing can be moved by more than a half, whatever eps says."""

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).sum(1) * 1e-3 + 9, x.flatten(1).sum(1) * 0], 1)

    x, y = torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.long)
    wide = LpBall("inf", 1.0)
    assert evaluate(Constant(), [(x, y)], {"fgsm": FGSM(wide)}, wide).flags == []


@dataclass(frozen=True)
class Half:
    """PGD that spares every other image: what a curve's search finds and the attack did not."""

    threat: LpBall

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        x_adv = PGD(self.threat, steps=3)(model, x, y, generator=generator)
        x_adv[::2] = self.threat.sample(x[::2], generator)
        return x_adv


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("cascade", [False, True])
def test_the_worst_case_and_the_curve_are_one(share: float, cascade: bool, digits_net: Any) -> None:
    model, (x, y) = digits_net
    attacks: dict[str, Attack] = {"half": Half(THREAT), "fgsm": FGSM(THREAT), "pgd": PGD(THREAT, steps=1)}
    loader = list(zip(x.split(70), y.split(70), strict=True))
    results = evaluate(model, loader, attacks, THREAT, cascade=cascade)
    alone = results.verdicts.worst_case.copy()
    rows = torch.randperm(len(x), generator=Generator().manual_seed(2))[: int(share * len(x))]
    radii = [0.0, 0.05, 0.1, 0.2]
    raw = accuracy_curve(model, [(x[rows], y[rows])], "half", attacks["half"], radii)
    results = united(results, raw)
    curve, worst = results.curve, results.verdicts.worst_case
    assert curve is not None
    assert worst.sum() < alone.sum(), "the search found more"
    assert not (worst & ~alone).any()
    # The curve at the threat's eps is the worst case of its images, and on all of them it is the run's.
    assert curve.points[2].robust_accuracy.value == pytest.approx(worst[rows.numpy()].mean())
    if share == 1:
        assert curve.points[2].robust_accuracy == results.worst_case.robust_accuracy
    outside = np.setdiff1d(np.arange(len(x)), rows.numpy())
    assert np.array_equal(worst[outside], alone[outside])
    assert curve.points[0].robust_accuracy == raw.points[0].robust_accuracy
    values = [point.robust_accuracy.value for point in curve.points]
    assert values == sorted(values, reverse=True)
    assert all(
        new.robust_accuracy.value <= old.robust_accuracy.value
        for new, old in zip(curve.points, raw.points, strict=True)
    )
    block = results.model_dump(by_alias=True, mode="json")
    assert block["worst_case"]["attacks"] == ["half", "fgsm", "pgd", "fmn"]
    assert curve.attacks == ["half", "fmn", "fgsm", "pgd"]
    assert sum(row["robust_accuracy"]["value"] * row["n"] for row in block["per_class"]) == pytest.approx(worst.sum())
