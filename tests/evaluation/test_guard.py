# ruff: noqa: NPY002  (numpy's global state is what must be left alone)
"""Whatever an attack does to the model, the next one meets it as it was, the figures are its, and the user is told."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks import FGSM, PGD
from robustml.errors import RunFailed
from robustml.evaluation import accuracy_curve, evaluate
from robustml.evaluation.sanity.guard import Guard
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.1)


class Sloppy:
    """FGSM by one's own hand that does something to the model besides."""

    def __init__(self, harm: Callable[[Any], Any], threat: LpBall = THREAT) -> None:
        self.harm, self.threat = harm, threat

    def __call__(self, model: Any, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        x_adv = FGSM()(model, x, y, THREAT)
        self.harm(model)
        return x_adv


def in_training(model: Any) -> None:
    model.train()
    model(torch.rand(16, 1, 6, 6, generator=Generator().manual_seed(0)))


def behind_the_back(model: Any) -> None:
    model[8].weight.data = model[8].weight.data * 1.5


HARMS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "training mode": (in_training, "mode"),
    "one layer's mode": (lambda model: model[1].train(), "mode"),
    "a buffer": (lambda model: model[1].running_mean.add_(1), "1.running_mean"),
    "a weight": (lambda model: model[0].weight.data.mul_(-1), "0.weight"),
    "another tensor for a weight": (behind_the_back, "8.weight"),
    "half precision": (lambda model: model.half(), "0.weight"),
    "requires_grad": (lambda model: model.requires_grad_(True), "requires_grad"),
    "gradients": (
        lambda model: model.requires_grad_(True)(torch.rand(2, 1, 6, 6)).sum().backward(),
        ".grad",
    ),
    "a hook": (lambda model: model.register_forward_hook(lambda module, inputs, output: -output), "hooks"),
    "a hook before a layer": (lambda model: model[3].register_forward_pre_hook(lambda module, inputs: None), "hooks"),
    "another layer": (lambda model: model.__setitem__(2, nn.Tanh()), "submodules"),
    "one layer more": (lambda model: model.append(nn.Softmax(1)), "submodules"),
    "its forward": (lambda model: setattr(model, "forward", lambda x: torch.zeros(len(x), 5)), "forward"),
}


@pytest.fixture
def conv(conv_model: Any, image_batch: Any) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    with torch.no_grad():
        y = conv_model(image_batch.x).argmax(1)
    x = image_batch.x
    return conv_model, [(x[:5], y[:5]), (x[5:], y[5:])]


@pytest.mark.parametrize("case", HARMS)
def test_what_an_attack_leaves_in_the_model_is_undone_and_said(case: str, conv: Any) -> None:
    model, loader = conv
    harm, named = HARMS[case]
    parts, modes = list(model.modules()), [module.training for module in model.modules()]
    state, x = copy.deepcopy(model.state_dict()), loader[0][0]
    logits = model(x).detach()
    fgsm, pgd = FGSM(), PGD(steps=3)
    alone = evaluate(model, loader, {"first": fgsm, "next": pgd}, THREAT)
    results = evaluate(model, loader, {"first": Sloppy(harm), "next": pgd}, THREAT)
    for name in ("first", "next"):
        assert np.array_equal(results.verdicts.attacks[name].robust, alone.verdicts.attacks[name].robust)
        assert np.array_equal(results.verdicts.attacks[name].distance, alone.verdicts.attacks[name].distance)
    (flag,) = [flag for flag in results.flags if flag.name == "model_changed"]
    assert flag.attack == "first"
    assert named in flag.message
    assert list(model.modules()) == parts
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(each.requires_grad and each.grad is None for each in model.parameters())
    assert torch.equal(model(x), logits)
    assert "model_changed" not in {flag.name for flag in alone.flags}


def test_a_curve_guards_the_model_too(conv: Any) -> None:
    @dataclasses.dataclass(frozen=True)
    class Moves:
        def __call__(self, model: Any, x: Tensor, y: Tensor, threat: Any, *, generator: Any = None) -> Tensor:
            x_adv = FGSM()(model, x, y, threat)
            in_training(model)
            x.zero_()  # nor must it move the images that it is measured by
            return x_adv

    model, loader = conv
    wanted = accuracy_curve(model, loader, "a", FGSM(), THREAT, [0.05, 0.1])
    found = accuracy_curve(model, loader, "a", Moves(), THREAT, [0.05, 0.1])
    assert found.points == wanted.points
    # Dropout in training mode draws, too.
    assert [flag.name for flag in found.flags] == ["model_changed", "global_random_state"]
    assert not any(module.training for module in model.modules())


def test_the_model_is_put_back_when_an_attack_fails(conv: Any) -> None:
    model, loader = conv

    def harm(model: Any) -> None:
        in_training(model)
        raise ZeroDivisionError("division\nby zero")

    state = copy.deepcopy(model.state_dict())
    with pytest.raises(RunFailed, match="attack 'first' failed: ZeroDivisionError: division by zero"):
        evaluate(model, loader, {"first": Sloppy(harm)}, THREAT)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


DRAWS: dict[str, Callable[[Any], Any]] = {
    "torch": lambda model: torch.rand(1),
    "torch, seeded": lambda model: torch.manual_seed(0),
    "numpy": lambda model: np.random.rand(),
    "python": lambda model: random.random(),
}


@pytest.mark.parametrize("case", DRAWS)
def test_the_global_random_state_is_put_back_and_it_is_said(case: str, conv: Any) -> None:
    model, loader = conv
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    found = evaluate(model, loader, {"draws": Sloppy(DRAWS[case]), "pgd": PGD(steps=2)}, THREAT)
    assert [(flag.name, flag.attack) for flag in found.flags] == [("global_random_state", "draws")]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_an_attack_is_not_blamed_for_what_the_model_does(digits_net: Any) -> None:
    class Counting(nn.Module):
        """Draws, and counts how often it was asked."""

        calls: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.inner = digits_net.model
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            logits: Tensor = self.inner(x)
            return logits + 0 * torch.rand(1)

    model = Counting()
    found = evaluate(model, [digits_net.test], {"pgd": PGD(steps=2)}, THREAT)
    assert [flag.name for flag in found.flags] == ["model_changes_itself"]
    assert "calls" in found.flags[0].message
    assert model.calls == 0


def test_a_model_that_is_not_a_number_already_is_no_change() -> None:
    model = nn.BatchNorm1d(3)
    model.running_mean.fill_(float("nan"))  # type: ignore[union-attr]
    guard = Guard(model)
    assert guard.changes() == []
    model.running_mean[0] = 1  # type: ignore[index]
    assert guard.changes() == ["the values of running_mean"]
    guard.restore()
    assert guard.changes() == []


RETURNS: dict[str, Callable[[Tensor], Any]] = {
    "float64": lambda x_adv: x_adv.double(),
    "NumPy": lambda x_adv: x_adv.numpy(),
    "NumPy, float64": lambda x_adv: x_adv.double().numpy(),
    "part of a graph": lambda x_adv: x_adv.clone().requires_grad_() * 1,
    "a tuple with a mask": lambda x_adv: (x_adv, torch.ones(len(x_adv), dtype=torch.bool)),
    "a list of one": lambda x_adv: [x_adv],
}


@pytest.mark.parametrize("case", RETURNS)
def test_what_an_attack_returns_is_read(case: str, digits_net: Any) -> None:
    model, test = digits_net

    def attack(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Any:
        return RETURNS[case](FGSM()(model, x, y, THREAT))

    found = evaluate(model, [test], {"own": attack}, THREAT)
    assert (
        found.worst_case.robust_accuracy == evaluate(model, [test], {"own": FGSM()}, THREAT).worst_case.robust_accuracy
    )
    assert found.flags == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: None, "returned None"),
        (lambda x: (x, x), "2 entries have the shape"),
        (lambda x: (x * 255).byte(), r"returned torch\.uint8"),
        (lambda x: {"adv": x}, "returned a dict"),
        (lambda x: "images", "returned 'images'"),
        (lambda x: [], "returned a list of 0"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(returned: Callable[[Tensor], Any], message: str, conv: Any) -> None:
    model, loader = conv
    with pytest.raises(RunFailed, match=message) as refusal:
        evaluate(model, loader, {"own": lambda model, x, y, generator: returned(x)}, THREAT)
    assert "\n" not in str(refusal.value)


def test_an_attack_of_the_user_s_may_use_gradients_under_no_grad(digits_net: Any) -> None:
    model, test = digits_net

    def attack(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        x.requires_grad_()
        functional.cross_entropy(model(x), y).backward()
        assert x.grad is not None
        return (x + 0.1 * x.grad.sign()).clamp(0, 1)

    wanted = evaluate(model, [test], {"own": FGSM()}, THREAT)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            x, y = test
            found = evaluate(model, [(x.clone(), y.clone())], {"own": attack}, THREAT)
        assert found.worst_case.robust_accuracy == wanted.worst_case.robust_accuracy
        assert found.flags == []
