# ruff: noqa: NPY002  (numpy's global state is what must be left alone)
from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, PGD, TorchAttack
from robustml.data import DataModule, Digits
from robustml.errors import RequestError, RunFailed
from robustml.evaluation import attack_parameters, evaluate
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.3)


class Brightness(nn.Module):
    """Class 1 where the first pixel is above one half; the other pixels do not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        score = self.slope * (x.flatten(1)[:, 0] - 0.5)
        return torch.stack([-score, score], dim=1)


def numbered(labels: Sequence[int], wrong: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 2, 2) that `Brightness` gets right, but for `wrong`; the last pixel is the image's number / 100."""
    y = torch.tensor(labels)
    shown = y.clone()
    shown[list(wrong)] = 1 - shown[list(wrong)]
    x = torch.full((len(y), 1, 2, 2), 0.5)
    x[:, 0, 0, 0] = torch.where(shown == 1, 0.6, 0.4)
    x[:, 0, 1, 1] = torch.arange(len(y)) / 100
    return x, y


def in_batches(x: Tensor, y: Tensor, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


@dataclass
class Fool:
    """Flips the first pixel of exactly the images with these numbers; remembers which images it was given."""

    numbers: Sequence[int]
    threat: LpBall = THREAT
    steps: int = 0
    given: list[int] = field(default_factory=list)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        numbers = (x[:, 0, 1, 1] * 100).round().long().tolist()
        self.given += numbers
        chosen = torch.tensor([number in self.numbers for number in numbers])
        x_adv = x.clone()
        x_adv[chosen, 0, 0, 0] = 1 - x_adv[chosen, 0, 0, 0]
        return x_adv


class Change(NamedTuple):
    """An attack that is nothing but a function of the images."""

    change: Callable[[Tensor], Tensor]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        return self.change(x)


def test_figures_are_counted_image_by_image() -> None:
    x, y = numbered([0, 1, 0, 1, 1, 0, 1, 1, 1, 1], wrong=[2, 7])
    attacks = {"one": Fool([0, 1, 2]), "two": Fool([1, 4]), "none": Fool([])}
    results = evaluate(Brightness(), in_batches(x, y), attacks, THREAT, class_names=["dark", "bright"])

    assert results.clean_accuracy.value == pytest.approx(0.8)
    # Image 2 is wrong to begin with: it is not robust, and no attack's merit.
    assert results.attacks["one"].robust_accuracy.value == pytest.approx(0.6)
    assert results.attacks["two"].robust_accuracy.value == pytest.approx(0.6)
    assert results.attacks["none"].robust_accuracy.value == pytest.approx(0.8)
    assert results.worst_case.robust_accuracy.value == pytest.approx(0.5)
    assert results.verdicts.worst_case.nonzero()[0].tolist() == [3, 5, 6, 8, 9]
    assert results.clean_accuracy.n == results.worst_case.robust_accuracy.n == 10
    # Wilson's interval for 8 of 10, as tables have it.
    assert results.clean_accuracy.ci95 == pytest.approx((0.490, 0.943), abs=5e-4)

    figures = results.model_dump(mode="json")
    assert figures["worst_case"]["attacks"] == ["one", "two", "none"]
    assert figures["attacks"]["one"]["max_norm"] == pytest.approx(0.2, abs=1e-6)
    assert figures["attacks"]["none"]["max_norm"] == 0.0
    assert figures["threat"] == {"norm": "inf", "eps": 0.3}
    per_class = {row["name"]: row for row in figures["per_class"]}
    dark, bright = per_class["dark"], per_class["bright"]
    assert (dark["label"], dark["n"], bright["label"], bright["n"]) == (0, 3, 1, 7)
    assert dark["clean_accuracy"]["value"] == pytest.approx(2 / 3)
    assert dark["robust_accuracy"]["value"] == pytest.approx(1 / 3)
    assert bright["clean_accuracy"]["value"] == pytest.approx(6 / 7)
    assert bright["robust_accuracy"]["value"] == pytest.approx(4 / 7)


def test_only_what_is_classified_correctly_is_attacked() -> None:
    x, y = numbered([0, 1, 0, 1, 1, 0, 1], wrong=[2, 5])
    attack, calls = Fool([2]), []
    results = evaluate(
        Brightness(), in_batches(x, y, 3), {"fool": attack}, THREAT, on_attack=lambda *call: calls.append(call)
    )
    assert attack.given == [0, 1, 3, 4, 6]
    assert calls == [("fool", 0, 2), ("fool", 1, 2), ("fool", 2, 1)]
    assert results.attacks["fool"].robust_accuracy.value == results.clean_accuracy.value == pytest.approx(5 / 7)


def test_a_batch_without_a_correct_image_is_not_attacked_at_all() -> None:
    x, y = numbered([0, 1, 0], wrong=[0, 1, 2])
    attack = Fool([0])
    results = evaluate(Brightness(), [(x, y)], {"fool": attack}, THREAT)
    assert attack.given == []
    assert results.clean_accuracy.value == results.worst_case.robust_accuracy.value == 0.0


def test_without_attacks_the_worst_case_is_the_clean_accuracy() -> None:
    x, y = numbered([0, 1, 0, 1], wrong=[3])
    results = evaluate(Brightness(), [(x, y)], {}, THREAT)
    assert results.worst_case.robust_accuracy == results.clean_accuracy
    assert results.worst_case.attacks == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x + 0.35 * (torch.arange(4).view(2, 2) == 1), "worst excess over eps=0.3 is 0.05"),
        (lambda x: torch.cat([x[:-1], x[-1:] * 0]), "on 1 of 6 images"),
        (lambda x: x + 0.29 * torch.tensor([[0.0, 2.0], [0.0, 0.0]]) - 0.29, "over the image range 0.29"),
        (lambda x: x * math.nan, "not finite"),
        (lambda x: x.masked_fill(x == x[0, 0, 0, 0], math.inf), "not finite"),
        (lambda x: x[:, :, :1], "shape"),
        (lambda x: x[:-1], "shape"),
        (lambda x: x.flatten(1), "shape"),
    ],
)
def test_a_violation_is_an_error_that_names_the_attack(change: Callable[[Tensor], Tensor], message: str) -> None:
    x, y = numbered([0, 1, 0, 1, 0, 1])
    with pytest.raises(RunFailed, match=f"'cheat'.*{message}"):
        evaluate(Brightness(), [(x, y)], {"honest": Fool([0]), "cheat": Change(change)}, THREAT)


@pytest.mark.parametrize("p", [2, 1])
def test_a_violation_in_other_norms(p: float) -> None:
    x, y = numbered([0, 1])
    moved = Change(lambda x: x + torch.tensor([[0.0, 0.2], [0.2, 0.0]]))
    size = 0.2 * 2 ** (1 / p)
    evaluate(Brightness(), [(x, y)], {"moved": moved}, LpBall(p, size + 1e-4))
    with pytest.raises(RunFailed, match=r"'moved'.* is 0\.001"):
        evaluate(Brightness(), [(x, y)], {"moved": moved}, LpBall(p, size - 1e-3))


def returning(function: Callable[[Tensor], Any]) -> nn.Module:
    class Odd(Brightness):
        def forward(self, x: Tensor) -> Any:
            return function(super().forward(x))

    return Odd()


@pytest.mark.parametrize(
    ("model", "spoil", "message"),
    [
        (Brightness(), lambda x, y: (x * 255, y), "divide by 255"),
        (Brightness(), lambda x, y: (x - 0.5, y), r"\[0, 1\]"),
        (Brightness(), lambda x, y: (x * math.nan, y), r"\[0, 1\]"),
        (Brightness(), lambda x, y: (x, y + 1), r"labels must be in 0\.\.1.*got 1 to 2"),
        (Brightness(), lambda x, y: (x, y - 1), "labels"),
        (returning(lambda logits: logits * math.nan), lambda x, y: (x, y), "not finite"),
        (returning(lambda logits: logits / 0), lambda x, y: (x, y), "not finite"),
        (returning(lambda logits: {"logits": logits}), lambda x, y: (x, y), "dict"),
        (returning(lambda logits: logits[:, 0].sigmoid()), lambda x, y: (x, y), "before the sigmoid"),
        (returning(lambda logits: logits[None]), lambda x, y: (x, y), "shape"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    model: nn.Module, spoil: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], message: str
) -> None:
    x, y = numbered([0, 1, 1, 0])
    with pytest.raises(RequestError, match=message):
        evaluate(model, [(x, y), spoil(x, y)], {"fool": Fool([])}, THREAT)


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(RequestError, match="nothing to evaluate"):
        evaluate(Brightness(), [], {}, THREAT)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_handed_back_as_found(fails: bool, conv_model: nn.Module, image_batch: Any) -> None:
    conv_model.train()
    conv_model[4].eval()
    conv_model[0].weight.requires_grad_(False)
    modes = [module.training for module in conv_model.modules()]
    state = {name: tensor.clone() for name, tensor in conv_model.state_dict().items()}
    attack = Change(lambda x: x + 1 if fails else x)
    image_batch = (image_batch.x, conv_model.eval()(image_batch.x).argmax(1))
    for module, training in zip(conv_model.modules(), modes, strict=True):
        module.training = training
    try:
        evaluate(conv_model, [image_batch], {"pgd": PGD(steps=2), "last": attack}, THREAT)
        assert not fails
    except RunFailed:
        assert fails
    assert [module.training for module in conv_model.modules()] == modes
    assert [p.requires_grad for p in conv_model.parameters()] == [False] + [True] * 9
    assert all(p.grad is None for p in conv_model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in conv_model.state_dict().items())


def test_everything_runs_in_eval_mode_without_parameter_gradients(conv_model: nn.Module, image_batch: Any) -> None:
    seen: list[bool] = []
    conv_model.train().register_forward_hook(
        lambda model, _, __: seen.extend(
            [*(module.training for module in model.modules()), *(p.requires_grad for p in model.parameters())]
        )
    )
    evaluate(conv_model, [image_batch], {"pgd": PGD(steps=2)}, THREAT)
    assert seen
    assert not any(seen)


RANDOM_ATTACKS = {
    "pgd": PGD(steps=1),
    "more": PGD(steps=1, restarts=2),
    "ta": TorchAttack("PGD", {"steps": 1}),
}


def test_the_seed_decides_and_the_global_generators_do_not(digits_net: Any) -> None:
    model, (x, y) = digits_net
    loader, threat = in_batches(x, y, 100), LpBall("inf", 0.08)

    def verdicts(seed: int) -> tuple[list[bool], list[float]]:
        results = evaluate(model, loader, RANDOM_ATTACKS, threat, seed=seed).verdicts
        return (
            [bool(b) for attack in results.attacks.values() for b in attack.robust],
            [float(d) for attack in results.attacks.values() for d in attack.distance],
        )

    state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = verdicts(0)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
    assert random.getstate() == state[2]
    torch.rand(1)
    assert verdicts(0) == first
    assert verdicts(1) != first


def test_every_attack_draws_from_its_own_generator_and_every_batch_from_its_beginning() -> None:
    drawn: list[float] = []

    class Draw(NamedTuple):
        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
            assert generator is not None
            drawn.append(float(torch.rand(1, generator=generator)))
            return x

    x, y = numbered([0, 1] * 6)
    evaluate(Brightness(), in_batches(x, y), {"a": Draw(), "b": Draw()}, THREAT)
    assert len(drawn) == 6
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3] == drawn[4] == drawn[5]


def test_an_attack_s_figures_do_not_depend_on_which_attacks_run_before_it(digits_net: Any) -> None:
    """The docstring: generators are made of the seed and the attack's name."""
    model, (x, y) = digits_net
    threat = LpBall("inf", 0.08)
    attack = PGD(steps=1)
    alone = evaluate(model, [(x, y)], {"pgd": attack}, threat)
    beside = evaluate(model, [(x, y)], {"fgsm": FGSM(), "pgd": attack}, threat)
    assert np.array_equal(alone.verdicts.attacks["pgd"].robust, beside.verdicts.attacks["pgd"].robust)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 10), (7,), (1, 1, 1), (2, 3)])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_any_shape_and_number_of_classes(shape: tuple[int, ...], classes: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(31)
        model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))
        x = torch.rand(6, *shape)
    with torch.no_grad():
        y = model(x).argmax(1)
    results = evaluate(model, in_batches(x, y), {"fgsm": FGSM(), "pgd": PGD(steps=2)}, THREAT)
    assert results.clean_accuracy.value == 1.0
    with torch.no_grad():
        expected = (model(FGSM()(model, x, y, THREAT)).argmax(1) == y).double().mean()
    assert results.attacks["fgsm"].robust_accuracy.value == pytest.approx(expected.item())
    rows = results.model_dump(by_alias=True, mode="json")["per_class"]
    assert sum(row["n"] for row in rows) == 6


def test_batches_of_any_size_give_the_same_figures(digits_net: Any) -> None:
    model, (x, y) = digits_net
    threat = LpBall(2, 0.5)
    attacks = {"bim": PGD(steps=3, random_start=False)}
    whole, parts = (evaluate(model, in_batches(x, y, size), attacks, threat) for size in (300, 37))
    assert np.array_equal(whole.verdicts.worst_case, parts.verdicts.worst_case)
    assert whole.worst_case.robust_accuracy == parts.worst_case.robust_accuracy
    assert whole.verdicts.y.tolist() == y.tolist()


def test_distances_are_those_of_the_returned_images() -> None:
    x, y = numbered([0, 1, 0, 1], wrong=[1])
    results = evaluate(Brightness(), [(x, y)], {"fool": Fool([0, 2])}, THREAT)
    np.testing.assert_allclose(results.verdicts.attacks["fool"].distance, [0.2, 0, 0.2, 0], atol=1e-6)


def test_examples_are_of_the_attack_that_broke_them_and_broken_ones_come_first() -> None:
    x, y = numbered([0, 0, 1, 1, 0, 1], wrong=[5])
    attacks = {"weak": Fool([0]), "strong": Fool([1, 3])}
    kept = evaluate(Brightness(), [(x, y)], attacks, THREAT, examples=4, class_names=["dark", "bright"]).examples
    assert kept is not None
    assert kept.attack == "strong"
    assert kept.class_names == ("dark", "bright")
    numbers = (kept.x[:, 0, 1, 1] * 100).round().astype(int).tolist()
    shown = dict(zip(numbers, kept.attacks, strict=True))
    assert {number: shown[number] for number in numbers[:3]} == {0: "weak", 1: "strong", 3: "strong"}
    assert numbers[3] in (2, 4)
    assert (kept.adversarial_prediction[:3] != kept.y[:3]).all()
    assert kept.adversarial_prediction[3] == kept.y[3]
    assert np.array_equal(kept.prediction, kept.y)
    np.testing.assert_allclose(kept.x_adv[:3, 0, 0, 0], 1 - kept.x[:3, 0, 0, 0], atol=1e-6)
    assert kept.confidence[0] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-5)
    assert evaluate(Brightness(), [(x, y)], attacks, THREAT, examples=0).examples is None
    assert evaluate(Brightness(), [(x, y)], {}, THREAT).examples is None


def test_examples_are_of_all_classes_of_a_sorted_set(digits_net: Any) -> None:
    """The first batch of a set that is sorted by class shows one or two of ten."""
    model, (x, y) = digits_net
    order = y.argsort(stable=True)
    threat = LpBall("inf", 0.1)
    found = []
    for size in (30, 300, 7):
        kept = evaluate(model, in_batches(x[order], y[order], size), {"fgsm": FGSM()}, threat).examples
        assert kept is not None
        assert len(set(kept.y.tolist())) == 8
        np.testing.assert_allclose(np.abs(kept.x_adv - kept.x).reshape(8, -1).max(1), 0.1, atol=1e-5)
        found.append(kept.x)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_the_looks_are_at_all_classes_of_a_sorted_set(digits_net: Any) -> None:
    """A model that is blind for half of the classes, which the first batches do not show."""
    model, (x, y) = digits_net
    order = y.argsort(stable=True)

    class Blind(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = model(x)
            steep = torch.where(logits.argmax(1, keepdim=True) >= 5, 1e4, 1.0)
            return logits * steep

    loader = in_batches(x[order], y[order], 50)
    names = {flag.name for flag in evaluate(Blind(), loader, {}, THREAT).flags}
    assert {"zero_gradients", "saturated_logits"} <= names
    backwards = evaluate(Blind(), loader[::-1], {}, THREAT)
    assert {flag.name for flag in backwards.flags} == names


def test_examples_are_written_without_pickle(tmp_path: Any) -> None:
    x, y = numbered([0, 1, 1])
    kept = evaluate(Brightness(), [(x, y)], {"fool": Fool([1])}, THREAT).examples
    assert kept is not None
    kept.save(tmp_path / "examples.npz")
    with np.load(tmp_path / "examples.npz", allow_pickle=False) as read:
        assert np.array_equal(read["x"], kept.x)
        assert np.array_equal(read["y"], kept.y)
        assert str(read["attack"]) == "fool"


def test_attack_parameters_are_plain_values() -> None:
    parameters = attack_parameters(TorchAttack("PGD", {"steps": 3}), 0.3)
    assert parameters == {"attack": "TorchAttack", "eps": 0.3, "name": "PGD", "params": {"steps": 3}}
    assert json.loads(json.dumps(attack_parameters(PGD(steps=7), 0.3)))["steps"] == 7
    assert attack_parameters(Change(lambda x: x), 0.3) == {"attack": "Change"}


def test_verdicts_and_pictures_name_their_records(digits_net: Any) -> None:
    data = DataModule(name="digits", source=Digits(), batch_size=64)
    data.setup()
    loader = data.loader("test", limit=60)
    found = evaluate(digits_net.model, loader, {"fgsm": FGSM()}, LpBall("inf", 0.1), examples=4)
    assert found.verdicts.ids is not None
    assert found.verdicts.ids.tolist() == loader.ids.tolist()
    assert found.examples is not None
    rows = {identity: row for row, identity in enumerate(loader.ids.tolist())}
    for identity, x in zip(found.examples.ids.tolist(), found.examples.x, strict=True):
        assert np.allclose(loader.records.x[rows[identity]].numpy() / 255, x)
