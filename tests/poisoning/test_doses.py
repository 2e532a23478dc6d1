"""What a poison reports is what was asked for, within a row, or says why not; and what cannot be had is refused.

Every count here is made anew from the bytes of both sets.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from poisons import BACKDOORS, BALL, COUNT, SURROGATE, TARGET, Both, Given, network, pictures
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, PGD
from robustml.data import Records
from robustml.data.labels import class_index
from robustml.errors import RequestError
from robustml.poisoning import (
    SIG,
    Add,
    Backdoor,
    BadNets,
    Blended,
    Chain,
    Change,
    Delete,
    Flip,
    FourCorners,
    GradientMatching,
    InjectAdversarial,
    LabelConsistent,
    Logo,
    Noise,
    Pattern,
    Poison,
    PoisonPlan,
    Shortcut,
    SinglePixel,
    Square,
    WaNet,
)
from robustml.poisoning.pixels import stored_within
from robustml.threats import LpBall


def poisoned(data: Records, poison: Poison, seed: int = 0) -> tuple[Records, PoisonPlan]:
    plan = poison.plan(data, seed=seed)
    return plan.apply(data), plan


def test_each_poison_of_a_chain_tells_its_own_rate() -> None:
    clean = pictures()
    chain = Chain({"first": Flip(0.3), "second": WaNet(rate=0.1, noise_rate=0.2, target=TARGET)})
    after, plan = poisoned(clean, chain)
    flip, wanet = plan.summary.parts
    assert (flip.kind, flip.poisoned, wanet.kind, wanet.poisoned, wanet.cover) == ("flip", 36, "wanet", 12, 24)
    assert plan.summary.of_kind("wanet") is wanet
    assert [part.rate for part in plan.summary.parts] == [0.3, 0.1]
    differs = (after.x != clean.x).flatten(1).any(dim=1) | (after.y != clean.y)
    assert plan.summary.poisoned + plan.summary.cover == int(differs.sum())
    assert len(plan.summary.lines()) == 3


# B15: what does not show.


@pytest.mark.parametrize(
    ("poison", "hides"),
    [
        (BadNets(Square(2, value=0.0), rate=0.5, target=TARGET), True),
        (SIG(strength=0.1, rate=0.2, target=TARGET, frequency=2), False),
        (Noise(0.5, sigma=0.2), False),
    ],
)
def test_rows_that_look_so_before_are_told_of(poison: Any, hides: bool) -> None:
    """Some pictures are black: a black mark on them does not show, and stripes do."""
    x = pictures().x
    x[::8] = 0
    after, plan = poisoned(Records(x, pictures().y, pictures().class_names), poison)
    unseen = int(((after.x == x).flatten(1).all(dim=1) & (after.y != pictures().y)).sum())
    assert (unseen > 0) == hides
    told = f"on {unseen} of the {plan.summary.poisoned} rows the trigger changes nothing but the label"
    assert (told in (plan.summary.why or "")) == hides


@pytest.mark.parametrize(
    "poison",
    [
        BadNets(Square(2, value=0.0), rate=0.2),
        Blended(Square(3, value=0.0), rate=0.2),
        SIG(rate=0.1, strength=0.0015, frequency=2),
        SIG(rate=0.1, frequency=8),
        SinglePixel(0, pixel=(1, 1)),
        Shortcut(Square(2, value=0.0)),
    ],
)
def test_a_poison_that_leaves_no_trace_is_refused(poison: Backdoor) -> None:
    black = Records(torch.zeros_like(pictures().x), pictures().y, pictures().class_names)
    with pytest.raises(RequestError, match="changes no"):
        poisoned(black, poison)


def test_sig_says_what_the_columns_show() -> None:
    _, plan = poisoned(pictures(side=8), SIG(frequency=6, rate=0.1))
    assert "8 columns cannot show 6 periods: what they show is 2" in str(plan.summary.why)


# B15: the budget.

EPS = (0.1, 8 / 255, 0.03, 25.4 / 255, 0.5 / 255 + 1 / 255)


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("p", ["inf", 2, 1])
def test_bytes_stay_within_the_budget_and_the_figure_is_the_largest_change(p: Any, eps: float) -> None:
    threat = LpBall(p, eps if p == "inf" else 20 * eps)
    clean = pictures()
    poison = InjectAdversarial(FGSM(), threat, network(), 0.5, replace=True)
    after, plan = poisoned(clean, poison)
    change = (after.x.double() - clean.x.double()) / 255
    largest = float(change.flatten(1).norm(p=float(p), dim=1).max())
    assert largest <= threat.eps + 1e-9
    budget = plan.summary.budget
    assert budget is not None
    assert (budget.asked, budget.stored) == (threat.eps, pytest.approx(largest, abs=1e-6))
    if p == "inf":
        assert round(largest * 255) == math.floor(eps * 255 + 1e-9)
    assert (abs(largest - threat.eps) < 1e-5) == (plan.summary.why is None)


@pytest.mark.parametrize("eps", EPS)
def test_label_consistent_and_gradient_matching_keep_to_their_eps(eps: float) -> None:
    clean = pictures()
    crafted = (
        LabelConsistent(SURROGATE, PGD(steps=2), LpBall("inf", eps), Square(1), rate=0.2, target=TARGET),
        GradientMatching(SURROGATE, Both(clean), (0, 5), TARGET, rate=0.2, eps=eps, steps=2),
    )
    for poison in crafted:
        after, plan = poisoned(clean, poison)
        change = (after.x.int() - clean.x.int()).abs()[:, :, :7]  # the trigger is in the last row
        budget = plan.summary.budget
        assert budget is not None
        assert int(change.max()) == math.floor(eps * 255 + 1e-9) == round(budget.stored * 255)
        assert budget.asked == eps


def test_sig_tells_the_amplitude_that_bytes_can_hold() -> None:
    clean = pictures(side=12)
    after, plan = poisoned(clean, SIG(strength=0.05, frequency=3, rate=0.25, target=TARGET))
    largest = int((after.x.int() - clean.x.int()).abs().max())
    assert plan.summary.budget is not None
    assert (largest, round(plan.summary.budget.stored * 255)) == (13, 13)
    assert "strength 0.05 asked for, at most 0.05098 as stored" in str(plan.summary.why)


def test_rounding_goes_towards_the_clean_byte() -> None:
    x = torch.tensor([[10, 10, 10, 10, 0, 255]], dtype=torch.uint8)
    x_adv = torch.tensor([[10.9, 9.1, 12.99995, 7.5, 0.7, 253.2]]) / 255
    assert stored_within(x_adv, x).tolist() == [[10, 10, 13, 8, 0, 254]]
    assert stored_within(x_adv, x_adv).equal(x_adv)


# B15: classes without rows.

GHOSTS = ("ant", "bee", "ghost", "cat", "dog", "spook")


def haunted() -> Records:
    """Pictures of four classes among six names."""
    data = pictures()
    return Records(data.x, torch.tensor([0, 1, 3, 4])[data.y], GHOSTS)


@pytest.mark.parametrize(
    "poison",
    [
        Flip(0.5),
        Flip(0.3, "most_confusable"),
        Add(0.5),
        Add(0.5, "out_of_distribution"),
        InjectAdversarial(FGSM(), BALL, network(6), 0.3, "predicted", replace=True),
    ],
    ids=lambda poison: f"{type(poison).__name__}-{getattr(poison, 'kind', '')}",
)
def test_no_label_goes_to_a_class_without_rows(poison: Poison) -> None:
    after, plan = poisoned(haunted(), poison)
    assert set(after.y.tolist()) <= {0, 1, 3, 4}
    if isinstance(poison, Flip | Add) and poison.kind != "most_confusable":
        assert "2 classes have no row, and got none: ghost, spook" in str(plan.summary.why)


AIMING: dict[str, Callable[[object], Poison]] = {
    **{name: (lambda target, name=name: replace(BACKDOORS[name], target=target)) for name in BACKDOORS},
    "flip": lambda target: Flip(0.1, "source_to_target", source="ant", target=target),
    "add": lambda target: Add(0.1, label=target),
    "add-noise": lambda target: Add(0.1, "out_of_distribution", label=target),
    "inject": lambda target: InjectAdversarial(FGSM(), BALL, SURROGATE, label=target),
}
del AIMING["badnets-next"], AIMING["gradient_matching"]  # the one names no class, the other's rows are of a source


@pytest.mark.parametrize("name", AIMING)
def test_nothing_is_aimed_at_a_class_without_rows(name: str) -> None:
    for target in ("ghost", 5):
        with pytest.raises(RequestError, match="has no row in the training part"):
            AIMING[name](target).plan(haunted(), seed=0)
    with pytest.raises(RequestError, match="'ghost', a class without a row"):
        BadNets(Square(2), target="next").plan(haunted(), seed=0)


# A6: a class is named by its name first.

DIGITS = ("2", "3", "0", "1")


@pytest.mark.parametrize("name", [name for name in AIMING if name not in ("input_aware", "flip")])
@pytest.mark.parametrize("target", [0, "0"])
def test_a_number_is_a_name_before_it_is_an_index(name: str, target: object) -> None:
    data = Records(pictures().x, pictures().y, DIGITS)
    poison = AIMING[name](target)
    if isinstance(poison, SinglePixel):
        poison = replace(poison, victim=3)
    _, plan = poisoned(data, poison)
    relabelled = plan.after.y[plan.after.y != plan.before.y] if plan.summary.changed else None
    if plan.summary.added:
        assert (plan.after.y == 2).all()
    elif relabelled is not None and len(relabelled):
        assert (relabelled == 2).all()
    else:
        assert plan.before.y.bincount(minlength=4).argmax() == 2
    if isinstance(poison, Backdoor):
        shown = poison.triggered(data)
        assert (shown.target == 2).all()
        assert not isinstance(poison, SinglePixel) or (shown.y == 1).all()


def test_every_other_option_that_names_a_class_does_so_by_name() -> None:
    data = Records(pictures().x, pictures().y, DIGITS)
    _, plan = poisoned(data, Flip(0.1, "source_to_target", source=1, target=3))
    assert (set(plan.before.y.tolist()), set(plan.after.y.tolist())) == ({3}, {1})
    _, plan = poisoned(data, Delete(0.2, classes=[0]))
    assert set(plan.before.y.tolist()) == {2}
    truths = Records(pictures().x, pictures().y % 2, ("True", "False"))
    assert class_index(False, truths.class_names) == 1  # as YAML reads a class named False
    assert class_index(1, ("a", "b")) == 1
    assert class_index(1, ("b", "1", "c")) == 1
    assert class_index(2, ("2", "b", "c")) == 0


@pytest.mark.parametrize("name", ["nope", -1, 4, 1.5, None, True, [0]])
def test_what_is_no_class_is_one_line(name: object) -> None:
    with pytest.raises(RequestError, match="there is no class"):
        class_index(name, ("a", "b", "c", "d"))


def test_a_word_that_is_a_class_too_is_refused_with_the_way_out() -> None:
    data = Records(pictures().x, pictures().y, ("true", "next", "cat", "dog"))
    inject = InjectAdversarial(FGSM(), BALL, SURROGATE)
    for label in ("true", True):
        with pytest.raises(RequestError, match=r"write poison.label=0 for the class, or null"):
            replace(inject, label=label).plan(data, seed=0)
    assert (replace(inject, label=0).plan(data, seed=0).apply(data).y[COUNT:] == 0).all()
    kept = replace(inject, label=None).plan(data, seed=0).apply(data)
    assert set(kept.y[COUNT:].tolist()) == {0, 1, 2, 3}
    with pytest.raises(RequestError, match=r"write poison.target=1 for it"):
        BadNets(Square(2), target="next").plan(data, seed=0)


# D28: what is out of range is refused, not clamped.

NAN = math.nan
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Square(value=128), r"trigger.value is a colour in \[0, 1\]; got 128; did you mean 128/255\?"),
    (lambda: Square(value=-0.1), "trigger.value"),
    (lambda: Square(value=NAN), "trigger.value"),
    (lambda: Square(value="red"), "trigger.value"),
    (lambda: Square(value=True), "trigger.value"),
    (lambda: Square(value=None), "trigger.value"),
    (lambda: Square(value=[1.0, 2.0, 0.0]), "trigger.value"),
    (lambda: Square(value=[]), "trigger.value"),
    (lambda: Square(size=1.5), "trigger.size"),
    (lambda: Square(size="3"), "trigger.size"),
    (lambda: Square(margin=-1), "margin"),
    (lambda: Square(margin=0.5), "margin"),
    (lambda: Square(place=[1.5, 2]), "trigger.place"),
    (lambda: Square(place=[-1, 2]), "trigger.place"),
    (lambda: Square(place=[1]), "trigger.place"),
    (lambda: Square(place=None), "trigger.place"),
    (lambda: Square(place=[1, 1], margin=2), "goes with a corner"),
    (lambda: Square(place="centre", margin=2), "goes with a corner"),
    (lambda: Square(2, place=[7, 0])(torch.rand(1, 3, 8, 8)), r"at \[7, 0\] does not fit"),
    (lambda: Square(2, margin=7)(torch.rand(1, 3, 8, 8)), "does not fit"),
    (lambda: Pattern([[255.0]]), "trigger.rows"),
    (lambda: Pattern([[NAN]]), "trigger.rows"),
    (lambda: Pattern([["x"]]), "trigger.rows"),
    (lambda: Pattern([[None]]), "marks nothing"),
    (lambda: Pattern(3), "trigger.rows"),
    (lambda: Pattern([1.0, 0.0]), "trigger.rows"),
    (lambda: Pattern([[1.0]], margin=-1), "margin"),
    (lambda: FourCorners(amplitude=1.5), "trigger.amplitude"),
    (lambda: FourCorners(amplitude=NAN), "trigger.amplitude"),
    (lambda: Blended(alpha=20), r"poison.alpha .* in \(0, 1\]; got 20; did you mean 20/255\?"),
    (lambda: Blended(alpha=NAN), "poison.alpha"),
    (lambda: Blended(alpha="faint"), "poison.alpha"),
    (lambda: Blended(None), "poison.trigger=None is no trigger"),
    (lambda: BadNets("square"), "poison.trigger='square' is no trigger"),
    (lambda: SIG(strength=NAN), "poison.strength"),
    (lambda: SIG(strength=20), "did you mean 20/255"),
    (lambda: SIG(frequency=math.inf), "poison.frequency"),
    (lambda: WaNet(strength=math.inf), "poison.strength"),
    (lambda: WaNet(strength=40).plan(pictures(), seed=0), "more than half of a picture"),
    (lambda: WaNet(size=2.5), "poison.size"),
    (lambda: WaNet(noise_rate=NAN), "poison.noise_rate"),
    (
        lambda: WaNet(rate=0.1, noise_rate=0.001).plan(pictures(), seed=0),
        "poison.noise_rate=0.001 of 120 rows rounds to no",
    ),
    (lambda: SinglePixel(0, value=NAN), "poison.value"),
    (lambda: SinglePixel(0, pixel=(1.5, 2)), "poison.pixel"),
    (lambda: SinglePixel(0, pixel=4), "poison.pixel"),
    (lambda: SinglePixel(0, channel=0.5), "poison.channel"),
    (lambda: SinglePixel(0, "eel", pixel=(1, 2)).plan(pictures(), seed=0), "poison.victim: there is no class 'eel'"),
    (lambda: SinglePixel(0, 0, pixel=(1, 2)).plan(pictures(), seed=0), "are both 0"),
    (lambda: Shortcut(Square(), correlation=NAN), "poison.correlation"),
    (lambda: Shortcut("mark"), "is no trigger"),
    (lambda: LabelConsistent(SURROGATE, PGD(), BALL, shown_trigger=3), "poison.shown_trigger=3 is no"),
    (
        lambda: LabelConsistent(SURROGATE, PGD(), BALL, shown_trigger=Square(9)).plan(pictures(), seed=0),
        "not fit",
    ),
    (lambda: replace(BACKDOORS["gradient_matching"], rows=(0, 0)), "different rows"),
    (lambda: replace(BACKDOORS["gradient_matching"], rows=[1.5]), "different rows"),
    (lambda: replace(BACKDOORS["gradient_matching"], rows=7), "different rows"),
    (lambda: replace(BACKDOORS["gradient_matching"], eps=16), "did you mean 16/255"),
    (lambda: replace(BACKDOORS["gradient_matching"], steps=1.5), "poison.steps"),
    (lambda: replace(BACKDOORS["gradient_matching"], step_size=NAN), "poison.step_size"),
    (lambda: replace(BACKDOORS["input_aware"], density=NAN), "poison.density"),
    (lambda: replace(BACKDOORS["input_aware"], learning_rate="fast"), "poison.learning_rate"),
    (lambda: replace(BACKDOORS["input_aware"], steps=1.5), "poison.steps"),
    (lambda: Change(value=NAN), "poison.value"),
    (lambda: Change(value=128), "did you mean 128/255"),
    (lambda: Change(kind="scale", value="2"), "poison.value"),
    (lambda: Change(columns=[0.5]), "poison.columns"),
    (lambda: Change(columns=[]), "poison.columns"),
    (lambda: Change(pixels=[[0, -1]]), "poison.pixels"),
    (lambda: Delete(column=0.5), "poison.column"),
    (lambda: Delete(column=-1), "poison.column"),
    (lambda: Delete(between=(0.0, NAN)), "poison.between"),
    (lambda: Delete(between=(0, 255)), "poison.between"),
    (lambda: Delete(classes="cat"), "poison.classes"),
    (lambda: Noise(sigma=NAN), "poison.sigma"),
    (lambda: Noise(share="some"), "poison.share"),
    (lambda: Flip(folds=2.5), "poison.folds"),
    (lambda: Chain({"first": None}), "poison.poisons.first=None is no poison"),
    (lambda: Chain({"first": "badnets"}), "is no poison: add one with"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_is_out_of_range_is_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_transparent_logo_is_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "nothing.png")
    with pytest.raises(RequestError, match="transparent everywhere"):
        Logo(str(tmp_path / "nothing.png"))


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(RequestError, match="no ordinary file"):
        Logo(str(tmp_path / "pipe.png"))


def test_an_attack_that_returns_no_numbers_is_refused() -> None:
    def broken(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        return x / 0 * 0

    for poison in (InjectAdversarial(broken, BALL, SURROGATE), LabelConsistent(SURROGATE, broken, BALL, rate=0.1)):
        with pytest.raises(RequestError, match="NaN or infinity"):
            poison.plan(pictures(), seed=0)


def test_the_chosen_rows_stay_the_same_whatever_part_of_the_test_set_is_looked_at() -> None:
    poison = BACKDOORS["gradient_matching"]
    test = Given().load("test")
    whole, part = poison.triggered(test), poison.triggered(test.take(torch.arange(60, 90)))
    order = torch.tensor([3, 1, 0, 2])  # the same classes, listed in another order
    renamed = Records(test.x, order[test.y], tuple(test.class_names[index] for index in (2, 1, 3, 0)))
    other = poison.triggered(renamed)
    assert torch.equal(whole.x, test.x[[0, 5]])
    assert torch.equal(part.x, whole.x)
    assert [renamed.class_names[label] for label in other.y] == [test.class_names[label] for label in whole.y]
    assert {renamed.class_names[label] for label in other.target} == {"cat"}
