"""An attack that does not use its budget is no evidence; and a run has one worst case, wherever it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import APGD, DDN, FGSM, FMN, MSD, PGD, Square, TorchAttack, Transfer, Within
from robustml.errors import RequestError
from robustml.evaluation import accuracy_curve, evaluate, united
from robustml.threats import LpBall
from robustml.types import Attack, Threat

THREAT = LpBall("inf", 0.1)
SMALL = PGD(steps=3)


@pytest.mark.parametrize("attack", [Within(SMALL, LpBall("inf", 0.001)), TorchAttack("PGD", {"eps": 0.001})])
def test_an_attack_that_keeps_to_less_is_no_evidence(attack: Any, digits_net: Any) -> None:
    """What is called with the threat cannot be built for less; what carries its own budget is seen through."""
    model, test = digits_net
    if isinstance(attack, TorchAttack):
        with pytest.raises(RequestError, match="follows from the threat"):
            evaluate(model, [test], {"weak": attack}, THREAT)
    else:
        (flag,) = evaluate(model, [test], {"weak": attack}, THREAT).flags
        assert (flag.name, flag.attack) == ("budget_not_used", "weak")


def test_an_attack_of_another_kind_of_threat_is_refused_before_anything_runs(digits_net: Any) -> None:
    model, test = digits_net
    for attack, message in ((DDN(), "L2 attack"), (Transfer(model, MSD()), "union of balls")):
        with pytest.raises(RequestError, match=message):
            evaluate(model, [test], {"fgsm": FGSM(), "other": attack}, THREAT)


def undeclared(attack: Any, threat: LpBall) -> Attack:
    """A function, which says nothing of its budget."""
    return lambda model, x, y, generator=None: attack(model, x, y, threat, generator=generator)


UNUSED: dict[str, tuple[Any, LpBall]] = {
    "a hundredth": (undeclared(SMALL, LpBall("inf", 0.001)), THREAT),
    "one half": (undeclared(PGD(steps=5), LpBall("inf", 0.05)), THREAT),
    "one half, minimum norm": (undeclared(FMN(steps=20), LpBall("inf", 0.05)), THREAT),
    "one half, fooled ones leave": (undeclared(PGD(steps=5, early_stop=True), LpBall("inf", 0.05)), THREAT),
    "one half in L2": (undeclared(PGD(steps=5), LpBall(2, 0.5)), LpBall(2, 1.0)),
    "one half in L1": (undeclared(PGD(steps=5), LpBall(1, 1.5)), LpBall(1, 3.0)),
    "steps that do not reach": (PGD(steps=5, step_size=0.002, random_start=False), THREAT),
    "the images themselves": (lambda model, x, y: x, THREAT),
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
        "fgsm": FGSM(),
        "pgd": PGD(steps=8),
        "bim": PGD(steps=8, random_start=False, early_stop=True),
        "fmn": FMN(steps=15),
        "apgd": APGD(steps=8),
        "square": Square(queries=30),
        "own": undeclared(PGD(steps=8), threat),
    }
    if p == 2:
        attacks |= {"ddn": DDN(steps=15), "cw": TorchAttack("CW", {"steps": 5})}
    flags = evaluate(model, [(x[:80], y[:80])], attacks, threat).flags
    assert [flag for flag in flags if flag.name == "budget_not_used"] == []


def test_what_the_box_cuts_off_was_never_in_the_budget(digits_net: Any) -> None:
    """In the middle of the box nothing can be moved by more than a half, whatever eps says."""

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).sum(1) * 1e-3 + 9, x.flatten(1).sum(1) * 0], 1)

    x, y = torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.long)
    wide = LpBall("inf", 1.0)
    assert evaluate(Constant(), [(x, y)], {"fgsm": FGSM()}, wide).flags == []


@dataclass(frozen=True)
class Half:
    """PGD that spares every other image: what a curve's search finds and the attack did not."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Any = None) -> Tensor:
        x_adv = PGD(steps=3)(model, x, y, threat, generator=generator)
        x_adv[::2] = threat.sample(x[::2], generator)
        return x_adv


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("cascade", [False, True])
def test_the_worst_case_and_the_curve_are_one(share: float, cascade: bool, digits_net: Any) -> None:
    model, (x, y) = digits_net
    attacks: dict[str, Attack] = {"half": Half(), "fgsm": FGSM(), "pgd": PGD(steps=1)}
    loader = list(zip(x.split(70), y.split(70), strict=True))
    results = evaluate(model, loader, attacks, THREAT, cascade=cascade)
    alone = results.verdicts.worst_case.copy()
    rows = torch.randperm(len(x), generator=Generator().manual_seed(2))[: int(share * len(x))]
    radii = [0.0, 0.05, 0.1, 0.2]
    raw = accuracy_curve(model, [(x[rows], y[rows])], "half", attacks["half"], THREAT, radii)
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
