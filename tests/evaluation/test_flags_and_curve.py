from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM, MIFGSM, PGD, TorchAttack
from robustml.errors import RequestError, RunFailed
from robustml.evaluation import accuracy_curve, evaluate
from robustml.threats import LpBall
from robustml.types import Attack

THREAT = LpBall("inf", 0.1)


class Random(nn.Module):
    """Adds noise to the logits of `inner`, as randomised defenses do."""

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
    assert results.model_dump(by_alias=True, mode="json")["flags"] == [
        {"name": flag.name, "attack": flag.attack, "message": flag.message} for flag in results.flags
    ]
    return {flag.name: flag.attack for flag in results.flags}


def test_a_sound_model_raises_no_flag(digits_net: Any) -> None:
    attacks = {"fgsm": FGSM(), "pgd": PGD(steps=10), "mifgsm": MIFGSM()}
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
    crippled = PGD(steps=20, step_size=1e-4, random_start=False)
    raised = flags(digits_net.model, digits_net, {"fgsm": FGSM(), "pgd": crippled})
    # Steps of 1e-4 do not come near the edge of the ball either.
    assert raised == {"one_step_beats_many": "pgd", "budget_not_used": "pgd"}


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
        names = [flag.name for flag in found if flag.name != "budget_not_used"]
        assert names == ["one_step_beats_many"] * raised, (only_one, only_many)


def test_flags_of_a_model_come_once_for_all_batches(digits_net: Any) -> None:
    x, y = digits_net.test
    batches = list(zip(x.split(50), y.split(50), strict=True))
    found = evaluate(Rounded(digits_net.model), batches, {}, THREAT).flags
    assert [flag.name for flag in found] == ["zero_gradients"]


def test_a_curve_starts_at_the_clean_accuracy_and_falls(digits_net: Any) -> None:
    model, (x, y) = digits_net
    curve = accuracy_curve(model, [(x, y)], "pgd", PGD(steps=10), THREAT, [0.3, 0, 0.05, 0.1, 0.05])
    clean = evaluate(model, [(x, y)], {}, THREAT).clean_accuracy
    assert [point.eps for point in curve.points] == [0.0, 0.05, 0.1, 0.3]
    values = [point.robust_accuracy.value for point in curve.points]
    assert curve.points[0].robust_accuracy == clean
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4
    assert curve.flags == []
    assert curve.attack == "pgd"


class Half(nn.Module):
    """Two classes, split by the plane weight . (x - 0.5) = 0."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        score = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize(("p", "dual"), [("inf", 1.0), (2, 2.0), (1, float("inf"))])
def test_the_curve_of_a_plane_is_known(p: Any, dual: float) -> None:
    """An image is robust below its distance to the plane, to within what a search is off at the boundary."""
    generator = Generator().manual_seed(40)
    weight = torch.randn(20, generator=generator)
    x = 0.3 + 0.4 * torch.rand(240, 20, generator=generator)
    y = (torch.arange(240) % 10 > 0).long().where((x - 0.5) @ weight > 0, (torch.arange(240) % 10 == 0).long())
    distance = ((x - 0.5) @ weight).abs() / torch.linalg.vector_norm(weight, ord=dual)
    correct = torch.arange(240) % 10 > 0
    radii = [float(distance.quantile(share)) for share in (0.1, 0.25, 0.5, 0.75, 0.9)]
    batches = list(zip(x.split(100), y.split(100), strict=True))
    curve = accuracy_curve(
        Half(weight), batches, "bim", PGD(steps=20, random_start=False), LpBall(p, 0.1), [0.0, *radii]
    )
    for eps, point in zip([0.0, *radii], curve.points, strict=True):
        found = point.robust_accuracy
        low, high = ((correct & (distance > eps * factor)).float().mean() for factor in (1.02, 0.98))
        assert found.n == 240
        assert low <= found.value <= high


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize(("p", "largest"), [("inf", 0.24), (2, 1.2), (1, 3.2)])
def test_a_curve_is_never_above_separate_attacks(p: Any, largest: float, early_stop: bool, digits_net: Any) -> None:
    model, x, y = digits_net.model, digits_net.test.x[:200], digits_net.test.y[:200]
    batches = [(x[:120], y[:120]), (x[120:], y[120:])]
    attack = PGD(steps=10, early_stop=early_stop)
    radii = [largest * (k + 1) / 6 for k in range(6)]
    curve = accuracy_curve(model, batches, "pgd", attack, LpBall(p, 0.1), radii, seed=3)
    separate = []
    for eps in radii:
        results = evaluate(model, batches, {"pgd": attack}, LpBall(p, eps), seed=3)
        separate.append(results.worst_case.robust_accuracy.value)
    assert 0.9 > separate[0] > separate[-1] + 0.5, "there is something to compare"
    # One image of 200: a random start may hit what another missed.
    found = [point.robust_accuracy.value for point in curve.points]
    assert all(value <= alone + 0.0051 for value, alone in zip(found, separate, strict=True))


@pytest.mark.parametrize(("largest", "early_stop", "price"), [(0.16, False, 3), (0.08, True, 3), (0.16, True, 6)])
def test_sixteen_points_at_little_more_than_the_price_of_one(
    largest: float, early_stop: bool, price: float, digits_net: Any
) -> None:
    """Counted in images that pass through the model. An attack that is soon done at the largest eps is a low price."""
    model, (x, y) = digits_net
    attack = PGD(steps=20, restarts=3, early_stop=early_stop)
    seen: list[int] = []
    hook = model.register_forward_hook(lambda module, arguments, output: seen.append(len(output)))
    accuracy_curve(model, [(x, y)], "pgd", attack, LpBall("inf", largest), [largest * (k + 1) / 16 for k in range(16)])
    curve = sum(seen)
    seen.clear()
    evaluate(model, [(x, y)], {"pgd": attack}, LpBall("inf", largest), examples=0)
    hook.remove()
    assert curve < price * sum(seen), f"{curve / sum(seen):.2f}"


@dataclass(frozen=True)
class TiresOut:
    """An attack that does nothing once eps is large."""

    limit: float

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Any, *, generator: Generator | None = None
    ) -> Tensor:
        return x if threat.eps > self.limit else FGSM()(model, x, y, threat)


@dataclass(frozen=True)
class Cube:
    """The ball of the L-infinity norm as a threat of another kind, for which there is no minimum-norm search."""

    eps: float
    bounds: tuple[float, float] = (0.0, 1.0)

    def at(self, eps: float) -> Cube:
        return Cube(eps, self.bounds)

    def __getattr__(self, name: str) -> Any:
        return getattr(LpBall("inf", self.eps, self.bounds), name)


@pytest.mark.parametrize("threat", [THREAT, Cube(0.1)])
def test_an_attack_that_fails_at_large_eps_is_flagged(threat: Any, digits_net: Any) -> None:
    model, test = digits_net
    curve = accuracy_curve(model, [test], "tired", TiresOut(0.2), threat, [0.05, 0.1, 0.3, 0.4])
    assert [(flag.name, flag.attack) for flag in curve.flags] == [("curve_not_monotone", "tired")]
    assert "eps=0.4" in curve.flags[0].message
    assert "eps=0.1" in curve.flags[0].message
    if threat is THREAT:
        # What the attack missed, the search found.
        alone = evaluate(model, [test], {"fgsm": FGSM()}, THREAT)
        assert curve.points[1].robust_accuracy.value <= alone.worst_case.robust_accuracy.value
        assert curve.points[3].robust_accuracy.value == 0


def test_nine_misses_are_chance_and_ten_are_not() -> None:
    """Only an attack that fails on ten images of a plane's sixty at the largest eps is flagged."""

    @dataclass(frozen=True)
    class Spares:
        count: int

        def __call__(
            self, model: nn.Module, x: Tensor, y: Tensor, threat: Any, *, generator: Generator | None = None
        ) -> Tensor:
            x_adv = FGSM()(model, x, y, threat)
            x_adv[: self.count] = x[: self.count]
            return x_adv

    x, y = torch.full((60, 2), 0.51), torch.ones(60, dtype=torch.long)
    for count, raised in ((9, False), (10, True)):
        curve = accuracy_curve(Half(torch.ones(2)), [(x, y)], "spares", Spares(count), THREAT, [0.05, 0.1])
        assert bool(curve.flags) == raised
        assert [point.robust_accuracy.value for point in curve.points] == [0.0, 0.0]


def test_a_threat_without_a_search_descends_from_the_largest_eps(digits_net: Any) -> None:
    model, test = digits_net
    radii = [0.0, 0.04, 0.08, 0.12, 0.16]
    attack = PGD(steps=10, random_start=False)
    curve = accuracy_curve(model, [test], "bim", PGD(steps=10, random_start=False), Cube(0.1), radii)
    for eps, found in zip(radii[1:], [point.robust_accuracy for point in curve.points[1:]], strict=True):
        results = evaluate(model, [test], {"bim": attack}, Cube(eps))
        # Image by image the attack is not quite monotone itself.
        assert abs(found.value - results.worst_case.robust_accuracy.value) < 0.007
    assert curve.flags == []


def test_an_attack_that_leaves_the_ball_is_refused(digits_net: Any) -> None:
    @dataclass(frozen=True)
    class Leaves:
        value: float

        def __call__(
            self, model: nn.Module, x: Tensor, y: Tensor, threat: Any, *, generator: Generator | None = None
        ) -> Tensor:
            return torch.full_like(x, self.value)

    for value, message in ((0.5, r"left the threat model at eps=0\.2"), (float("nan"), "returned images that are not")):
        with pytest.raises(RunFailed, match=f"'leaves' {message}"):
            accuracy_curve(digits_net.model, [digits_net.test], "leaves", Leaves(value), THREAT, [0.1, 0.2])


def test_other_curves(digits_net: Any) -> None:
    """eps = 0 alone, an attack of torchattacks, and a model that is always wrong."""
    model, (x, y) = digits_net
    clean = evaluate(model, [(x, y)], {}, THREAT).clean_accuracy
    assert accuracy_curve(model, [(x, y)], "pgd", PGD(), THREAT, [0]).points[0].robust_accuracy == clean
    curve = accuracy_curve(model, [(x, y)], "ta", TorchAttack("PGD", {"steps": 3}), THREAT, [0.0, 0.05, 0.2])
    assert [point.robust_accuracy.n for point in curve.points] == [300] * 3
    values = [point.robust_accuracy.value for point in curve.points]
    assert values[0] > values[1] > values[2]
    wrong = accuracy_curve(model, [(x, (model(x).argmax(1) + 1) % 10)], "pgd", PGD(), THREAT, [0.0, 0.1])
    assert [point.robust_accuracy.value for point in wrong.points] == [0.0, 0.0]


def test_the_same_seed_gives_the_same_curve(digits_net: Any) -> None:
    model, test = digits_net
    first, second = (
        accuracy_curve(model, [test], "pgd", PGD(steps=2), THREAT, [0.05, 0.1, 0.15], seed=5) for _ in range(2)
    )
    assert first == second


def test_a_curve_needs_radii_and_an_attack_that_can_be_rescaled(digits_net: Any) -> None:
    with pytest.raises(RequestError, match="at least one eps"):
        accuracy_curve(digits_net.model, [digits_net.test], "pgd", PGD(), THREAT, [])
    with pytest.raises(RequestError, match="another eps"):
        accuracy_curve(digits_net.model, [digits_net.test], "f", lambda model, x, y: x, THREAT, [0.1])
