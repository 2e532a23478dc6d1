"""What a poison reports is what was asked for, within a row, or says why not; and what cannot be had is refused.

Every count here is made anew from the bytes of both sets.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_backdoors import COUNT, RATED, SURROGATE, TABLE, TARGET, Given, network, pictures
from test_manipulation import ALL, CHANGING, SETS, N
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, PGD
from robustml.data import DataModule, Records
from robustml.data.labels import class_index
from robustml.data.splits import Split
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
    InputAware,
    LabelConsistent,
    Logo,
    Manifest,
    Noise,
    Pattern,
    Poison,
    Shortcut,
    SinglePixel,
    Square,
    WaNet,
    poison_training,
)
from robustml.poisoning.pixels import stored_within
from robustml.threats import LpBall


@dataclass(frozen=True)
class Both:
    """The same set as both parts."""

    data: Records

    def load(self, split: Split) -> Records:
        return self.data


def poisoned(data: Records, poison: Poison, seed: int = 0) -> tuple[DataModule, Manifest]:
    module = DataModule(Both(data), name="both", val_size=0)
    return module, poison_training(module, poison, seed=seed)


# B15: the rate.


@pytest.mark.parametrize("name", TABLE)
def test_a_backdoors_rate_is_that_of_its_own_rows(name: str) -> None:
    clean, poison = pictures(), TABLE[name]
    module, manifest = poisoned(clean, poison)
    relabelled, repainted = module.train.y != clean.y, (module.train.x != clean.x).flatten(1).any(dim=1)
    own = relabelled if relabelled.any() else repainted
    told = module.summary()["poison"]
    assert told["poisoned"] == int(own.sum())
    assert told["rate"] == pytest.approx(int(own.sum()) / COUNT)
    assert told["cover"] == int((repainted & ~own).sum())
    assert told["cover_rate"] == pytest.approx(told["cover"] / COUNT)
    assert told["changed"] == int((own | repainted).sum()) == told["poisoned"] + told["cover"]
    requested = {"rate": getattr(poison, "rate", None)} | {
        "cover": getattr(poison, "noise_rate", getattr(poison, "cross_rate", None))
    }
    assert (told["requested_rate"], told["requested_cover_rate"]) == (requested["rate"], requested["cover"])
    for asked, rows in ((requested["rate"], told["poisoned"]), (requested["cover"], told["cover"])):
        assert asked is None or abs(asked * COUNT - rows) <= 1 or told["why"]
    assert manifest.planted.rate == told["rate"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_a_manipulations_rate_is_the_share_that_differs(name: str, rate: float) -> None:
    clean = SETS["images"]()
    module, manifest = poisoned(clean, replace(ALL[name], rate=rate))
    before, now = (
        [(x.numpy().tobytes(), int(y)) for x, y in zip(part.x, part.y, strict=True)] for part in (clean, module.train)
    )
    new = abs(len(now) - N) or sum(old != one for old, one in zip(before, now, strict=True))
    assert (manifest.dose.rows, manifest.dose.requested) == (new, rate)
    assert manifest.rate == new / N
    assert abs(new - rate * N) <= 1 or manifest.dose.why


def test_each_poison_of_a_chain_tells_its_own_rate() -> None:
    clean = pictures()
    chain = Chain({"first": Flip(0.3), "second": WaNet(rate=0.1, noise_rate=0.2, target=TARGET)})
    module, manifest = poisoned(clean, chain)
    flip, wanet = manifest.parts
    assert (flip.kind, flip.rows, wanet.kind, wanet.rows, wanet.cover) == ("flip", 36, "wanet", 12, 24)
    assert manifest.planted is wanet
    assert [part["rate"] for part in module.summary()["poison"]["parts"]] == [0.3, 0.1]
    differs = (module.train.x != clean.x).flatten(1).any(dim=1) | (module.train.y != clean.y)
    assert manifest.dose.rows + manifest.dose.cover == int(differs.sum())
    assert len(manifest.lines()) == 3


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
    module, manifest = poisoned(Records(x, pictures().y, pictures().class_names), poison)
    unseen = int(((module.train.x == x).flatten(1).all(dim=1) & (module.train.y != pictures().y)).sum())
    assert (manifest.dose.label_only, unseen > 0) == (unseen, hides)
    told = f"on {unseen} of the {manifest.dose.rows} rows the trigger changes nothing but the label"
    assert (told in (manifest.dose.why or "")) == hides


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
    _, manifest = poisoned(pictures(side=8), SIG(frequency=6, rate=0.1))
    assert "8 columns cannot show 6 periods: what they show is 2" in str(manifest.dose.why)


# B15: the budget.

EPS = (0.1, 8 / 255, 0.03, 25.4 / 255, 0.5 / 255 + 1 / 255)


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("p", ["inf", 2, 1])
def test_bytes_stay_within_the_budget_and_the_figure_is_the_largest_change(p: Any, eps: float) -> None:
    threat = LpBall(p, eps if p == "inf" else 20 * eps)
    clean = pictures()
    poison = InjectAdversarial(FGSM(threat), network(), 0.5, replace=True)
    module, manifest = poisoned(clean, poison)
    change = (module.train.x.double() - clean.x.double()) / 255
    largest = float(change.flatten(1).norm(p=float(p), dim=1).max())
    assert largest <= threat.eps + 1e-9
    budget = manifest.dose.budget
    assert budget is not None
    assert (budget.asked, budget.stored) == (threat.eps, pytest.approx(largest, abs=1e-6))
    if p == "inf":
        assert round(largest * 255) == math.floor(eps * 255 + 1e-9)
    assert (abs(largest - threat.eps) < 1e-5) == (manifest.dose.why is None)


@pytest.mark.parametrize("eps", EPS)
def test_label_consistent_and_gradient_matching_keep_to_their_eps(eps: float) -> None:
    clean = pictures()
    crafted = (
        LabelConsistent(SURROGATE, PGD(LpBall("inf", eps), steps=2), Square(1), rate=0.2, target=TARGET),
        GradientMatching(SURROGATE, Both(clean), (0, 5), TARGET, rate=0.2, eps=eps, steps=2),
    )
    for poison in crafted:
        module, manifest = poisoned(clean, poison)
        change = (module.train.x.int() - clean.x.int()).abs()[:, :, :7]  # the trigger is in the last row
        budget = manifest.dose.budget
        assert budget is not None
        assert int(change.max()) == math.floor(eps * 255 + 1e-9) == round(budget.stored * 255)
        assert budget.asked == eps


def test_sig_tells_the_amplitude_that_bytes_can_hold() -> None:
    clean = pictures(side=12)
    module, manifest = poisoned(clean, SIG(strength=0.05, frequency=3, rate=0.25, target=TARGET))
    largest = int((module.train.x.int() - clean.x.int()).abs().max())
    assert manifest.dose.budget is not None
    assert (largest, round(manifest.dose.budget.stored * 255)) == (13, 13)
    assert "strength 0.05 asked for, at most 0.05098 as stored" in str(manifest.dose.why)


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
        InjectAdversarial(FGSM(LpBall("inf", 0.1)), network(6), 0.3, "predicted", replace=True),
    ],
    ids=lambda poison: f"{type(poison).__name__}-{getattr(poison, 'kind', '')}",
)
def test_no_label_goes_to_a_class_without_rows(poison: Poison) -> None:
    module, manifest = poisoned(haunted(), poison)
    assert set(module.train.y.tolist()) <= {0, 1, 3, 4}
    if isinstance(poison, Flip | Add) and poison.kind != "most_confusable":
        assert "2 classes have no row, and got none: ghost, spook" in str(manifest.dose.why)


def test_flips_are_as_likely_to_every_class_that_has_rows() -> None:
    data = Records(torch.rand(4000, 2), torch.tensor([0, 1, 3, 4])[torch.arange(4000) % 4], GHOSTS)
    module, _ = poisoned(data, Flip(0.6))
    changed = module.train.y != data.y
    counts = torch.zeros(6, 6).index_put_(
        (data.y[changed], module.train.y[changed]), torch.ones(int(changed.sum())), accumulate=True
    )
    there = torch.tensor([0, 1, 3, 4])
    pairs = counts[there][:, there][~torch.eye(4, dtype=torch.bool)]
    assert (pairs - 200).abs().max() < 60
    assert counts.sum() == pairs.sum() == 2400


AIMING: dict[str, Callable[[object], Poison]] = {
    **{name: (lambda target, name=name: replace(TABLE[name], target=target)) for name in TABLE},
    "flip": lambda target: Flip(0.1, "source_to_target", source="ant", target=target),
    "add": lambda target: Add(0.1, label=target),
    "add-noise": lambda target: Add(0.1, "out_of_distribution", label=target),
    "inject": lambda target: InjectAdversarial(FGSM(LpBall("inf", 0.1)), SURROGATE, label=target),
}
del AIMING["badnets-next"], AIMING["gradient_matching"]  # the one names no class, the other's rows are of a source


@pytest.mark.parametrize("name", AIMING)
def test_nothing_is_aimed_at_a_class_without_rows(name: str) -> None:
    for target in ("ghost", 5):
        with pytest.raises(RequestError, match="has no row in the training part"):
            AIMING[name](target)(haunted(), seed=0)
    with pytest.raises(RequestError, match="'ghost', a class without a row"):
        BadNets(Square(2), target="next")(haunted(), seed=0)


# A6: a class is named by its name first.

DIGITS = ("2", "3", "0", "1")


@pytest.mark.parametrize("name", [name for name in AIMING if name not in ("input_aware", "flip")])
@pytest.mark.parametrize("target", [0, "0"])
def test_a_number_is_a_name_before_it_is_an_index(name: str, target: object) -> None:
    data = Records(pictures().x, pictures().y, DIGITS)
    poison = AIMING[name](target)
    if isinstance(poison, SinglePixel):
        poison = replace(poison, victim=3)
    _, manifest = poisoned(data, poison)
    relabelled = manifest.poisoned.y[manifest.poisoned.y != manifest.originals.y] if len(manifest.changed) else None
    if len(manifest.added):
        assert (manifest.poisoned.y == 2).all()
    elif relabelled is not None and len(relabelled):
        assert (relabelled == 2).all()
    else:
        assert manifest.originals.y.bincount(minlength=4).argmax() == 2
    if isinstance(poison, Backdoor):
        shown = poison.present(data)
        assert (shown.wanted == 2).all()
        assert not isinstance(poison, SinglePixel) or (shown.y == 1).all()


def test_every_other_option_that_names_a_class_does_so_by_name() -> None:
    data = Records(pictures().x, pictures().y, DIGITS)
    _, manifest = poisoned(data, Flip(0.1, "source_to_target", source=1, target=3))
    assert (set(manifest.originals.y.tolist()), set(manifest.poisoned.y.tolist())) == ({3}, {1})
    _, manifest = poisoned(data, Delete(0.2, classes=[0]))
    assert set(manifest.originals.y.tolist()) == {2}
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
    inject = InjectAdversarial(FGSM(LpBall("inf", 0.1)), SURROGATE)
    for label in ("true", True):
        with pytest.raises(RequestError, match=r"write poison.label=0 for the class, or null"):
            replace(inject, label=label)(data, seed=0)
    assert (replace(inject, label=0)(data, seed=0).data.y[COUNT:] == 0).all()
    kept = replace(inject, label=None)(data, seed=0).data
    assert set(kept.y[COUNT:].tolist()) == {0, 1, 2, 3}
    with pytest.raises(RequestError, match=r"write poison.target=1 for it"):
        BadNets(Square(2), target="next")(data, seed=0)


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
    (lambda: WaNet(strength=40)(pictures(), seed=0), "more than half of a picture"),
    (lambda: WaNet(size=2.5), "poison.size"),
    (lambda: WaNet(noise_rate=NAN), "poison.noise_rate"),
    (lambda: WaNet(rate=0.1, noise_rate=0.001)(pictures(), seed=0), "poison.noise_rate=0.001 of 120 rows rounds to no"),
    (lambda: SinglePixel(0, value=NAN), "poison.value"),
    (lambda: SinglePixel(0, pixel=(1.5, 2)), "poison.pixel"),
    (lambda: SinglePixel(0, pixel=4), "poison.pixel"),
    (lambda: SinglePixel(0, channel=0.5), "poison.channel"),
    (lambda: SinglePixel(0, "eel", pixel=(1, 2))(pictures(), seed=0), "poison.victim: there is no class 'eel'"),
    (lambda: SinglePixel(0, 0, pixel=(1, 2))(pictures(), seed=0), "are both 0"),
    (lambda: Shortcut(Square(), correlation=NAN), "poison.correlation"),
    (lambda: Shortcut("mark"), "is no trigger"),
    (lambda: LabelConsistent(SURROGATE, PGD(LpBall("inf", 0.1)), shown_trigger=3), "poison.shown_trigger=3 is no"),
    (
        lambda: LabelConsistent(SURROGATE, PGD(LpBall("inf", 0.1)), shown_trigger=Square(9))(pictures(), seed=0),
        "not fit",
    ),
    (lambda: replace(TABLE["gradient_matching"], rows=(0, 0)), "different rows"),
    (lambda: replace(TABLE["gradient_matching"], rows=[1.5]), "different rows"),
    (lambda: replace(TABLE["gradient_matching"], rows=7), "different rows"),
    (lambda: replace(TABLE["gradient_matching"], eps=16), "did you mean 16/255"),
    (lambda: replace(TABLE["gradient_matching"], steps=1.5), "poison.steps"),
    (lambda: replace(TABLE["gradient_matching"], step_size=NAN), "poison.step_size"),
    (lambda: replace(TABLE["input_aware"], density=NAN), "poison.density"),
    (lambda: replace(TABLE["input_aware"], learning_rate="fast"), "poison.learning_rate"),
    (lambda: replace(TABLE["input_aware"], steps=1.5), "poison.steps"),
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


@pytest.mark.parametrize("name", [*RATED, *CHANGING, "add-mislabelled", "delete"])
def test_a_rate_that_rounds_to_no_row_is_refused(name: str) -> None:
    poison: Any = {**TABLE, **ALL}[name]
    data = pictures() if name in TABLE else SETS["images"]()
    with pytest.raises(RequestError, match=r"poison.rate=0.001 of \d+ rows rounds to no row"):
        replace(poison, rate=0.001)(data, seed=0)


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

    for poison in (InjectAdversarial(broken, SURROGATE), LabelConsistent(SURROGATE, broken, rate=0.1)):
        with pytest.raises(RequestError, match="NaN or infinity"):
            poison(pictures(), seed=0)


def test_input_aware_counts_its_cover_apart() -> None:
    poison = TABLE["input_aware"]
    assert isinstance(poison, InputAware)
    _, manifest = poisoned(pictures(), poison)
    assert (manifest.dose.rate, manifest.dose.cover_rate) == (0.1, 0.2)


def test_the_chosen_rows_stay_the_same_whatever_part_of_the_test_set_is_looked_at() -> None:
    poison = TABLE["gradient_matching"]
    test = Given().load("test")
    whole, part = poison.present(test), poison.present(test.take(torch.arange(60, 90)))
    order = torch.tensor([3, 1, 0, 2])  # the same classes, listed in another order
    renamed = Records(test.x, order[test.y], tuple(test.class_names[index] for index in (2, 1, 3, 0)))
    other = poison.present(renamed)
    assert torch.equal(whole.x, test.x[[0, 5]])
    assert torch.equal(part.x, whole.x)
    assert [renamed.class_names[label] for label in other.y] == [test.class_names[label] for label in whole.y]
    assert {renamed.class_names[label] for label in other.wanted} == {"cat"}
