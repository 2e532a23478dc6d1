from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, MIFGSM, PGD
from robustml.errors import RequestError
from robustml.evaluation import accuracy_curve, evaluate
from robustml.threats import LpBall
from robustml.types import Attack

THREAT = LpBall("inf", 0.1)


class Random(nn.Module):
    """Adds noise to the logits of `inner`, as randomised defences do."""

    def __init__(self, inner: nn.Module, size: float) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        return logits + self.size * torch.randn_like(logits)


class Rounded(nn.Module):
    """Quantises the input: a gradient of zero almost everywhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * 16).round() / 16)


class Scaled(nn.Module):
    """Saturates the softmax: in float32 the gradient of the cross-entropy is exactly zero where the model is right."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * 1e4


def flags(model: nn.Module, trained: Any, attacks: dict[str, Attack] | None = None) -> dict[str, str | None]:
    x, y = trained.test
    results = evaluate(model, [(x[:150], y[:150]), (x[150:], y[150:])], attacks or {}, THREAT)
    assert results.to_dict()["flags"] == [
        {"name": flag.name, "attack": flag.attack, "message": flag.message} for flag in results.flags
    ]
    return {flag.name: flag.attack for flag in results.flags}


def test_a_sound_model_raises_no_flag(digits_net: Any) -> None:
    attacks = {"fgsm": FGSM(THREAT), "pgd": PGD(THREAT, steps=10), "mifgsm": MIFGSM(THREAT)}
    assert flags(digits_net.model, digits_net, attacks) == {}


def test_random_outputs(digits_net: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert "random_outputs" in flags(Random(digits_net.model, 0.1), digits_net)
    assert flags(Random(digits_net.model, 0.0), digits_net) == {}


def test_dropout_is_no_random_output_since_evaluation_switches_it_off(digits_net: Any) -> None:
    model = nn.Sequential(digits_net.model, nn.Dropout(0.5)).train()
    assert flags(model, digits_net) == {}
    digits_net.model.eval()


def test_probabilities(digits_net: Any) -> None:
    assert "probabilities" in flags(nn.Sequential(digits_net.model, nn.Softmax(dim=1)), digits_net)
    assert "probabilities" not in flags(nn.Sequential(digits_net.model, nn.LogSoftmax(dim=1)), digits_net)
    assert "probabilities" not in flags(nn.Sequential(digits_net.model, nn.Sigmoid()), digits_net)


@pytest.mark.parametrize("wrapper", [Rounded, Scaled])
def test_zero_gradients(wrapper: type[nn.Module], digits_net: Any) -> None:
    assert "zero_gradients" in flags(wrapper(digits_net.model), digits_net)


def test_one_step_that_beats_many(digits_net: Any) -> None:
    crippled = PGD(THREAT, steps=20, step_size=1e-4, random_start=False)
    raised = flags(digits_net.model, digits_net, {"fgsm": FGSM(THREAT), "pgd": crippled})
    assert raised == {"one_step_beats_many": "pgd"}


def test_one_step_is_compared_per_image_and_not_for_chance(digits_net: Any) -> None:
    """Nine images more for one step are three standard deviations only where the other way round there are none."""

    @dataclass
    class Chosen:
        numbers: Sequence[int]
        steps: int

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
            x_adv = x.clone()
            for k in self.numbers:
                x_adv[k] = x[k] + 0.9 * (x[k] < 0.5) - 0.9 * (x[k] >= 0.5)
            return x_adv.clamp(0, 1)

    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([1 - 2 * x[:, 0], 2 * x[:, 0] - 1], dim=1)

    x = torch.full((60, 1), 0.1)
    y = torch.zeros(60, dtype=torch.long)
    for only_one, only_many, raised in ((9, 0, False), (10, 0, True), (20, 8, False), (30, 8, True)):
        attacks = {"one": Chosen(range(only_one), 1), "many": Chosen(range(only_one, only_one + only_many), 10)}
        found = evaluate(First(), [(x, y)], attacks, LpBall("inf", 1.0)).flags
        assert [flag.name for flag in found] == ["one_step_beats_many"] * raised, (only_one, only_many)


def test_flags_of_a_model_come_once_for_all_batches(digits_net: Any) -> None:
    x, y = digits_net.test
    batches = list(zip(x.split(50), y.split(50), strict=True))
    found = evaluate(Rounded(digits_net.model), batches, {}, THREAT).flags
    assert [flag.name for flag in found] == ["zero_gradients"]


def test_a_curve_starts_at_the_clean_accuracy_and_falls(digits_net: Any) -> None:
    model, (x, y) = digits_net
    curve = accuracy_curve(model, [(x, y)], "pgd", PGD(THREAT, steps=10), [0.3, 0, 0.05, 0.1, 0.05])
    clean = evaluate(model, [(x, y)], {}, THREAT).clean_accuracy
    assert curve.eps == (0.0, 0.05, 0.1, 0.3)
    values = [rate.value for rate in curve.robust_accuracy]
    assert curve.robust_accuracy[0] == clean
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4
    assert curve.flags == ()
    assert curve.to_dict()["attack"] == "pgd"
    assert [point["eps"] for point in curve.to_dict()["points"]] == [0.0, 0.05, 0.1, 0.3]
    at_one = evaluate(model, [(x, y)], {"pgd": PGD(THREAT, steps=10)}, THREAT)
    assert curve.robust_accuracy[2] == at_one.robust_accuracy("pgd")


@dataclass(frozen=True)
class TiresOut:
    """An attack that does nothing once eps is large."""

    threat: LpBall
    limit: float

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        return x if self.threat.eps > self.limit else FGSM(self.threat)(model, x, y)


def test_a_curve_that_rises_is_flagged(digits_net: Any) -> None:
    model, test = digits_net
    curve = accuracy_curve(model, [test], "tired", TiresOut(THREAT, 0.2), [0.05, 0.1, 0.3, 0.4])
    assert [(flag.name, flag.attack) for flag in curve.flags] == [("curve_not_monotone", "tired")]
    assert "eps=0.3" in curve.flags[0].message
    assert "eps=0.1" in curve.flags[0].message


def test_a_curve_needs_radii_and_an_attack_that_can_be_rescaled(digits_net: Any) -> None:
    with pytest.raises(RequestError, match="at least one eps"):
        accuracy_curve(digits_net.model, [digits_net.test], "pgd", PGD(THREAT), [])
    with pytest.raises(RequestError, match="another eps"):
        accuracy_curve(digits_net.model, [digits_net.test], "f", lambda *a, generator=None: a[1], [0.1])
