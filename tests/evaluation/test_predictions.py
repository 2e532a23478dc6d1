"""Figures that no model earns which was trained on these classes, and heads that attacks cannot climb: flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustml.attacks import FGSM, PGD
from robustml.errors import RequestError
from robustml.evaluation import evaluate
from robustml.models import Wrapped
from robustml.models.fitted import fitted
from robustml.threats import LpBall

THREAT = LpBall("inf", 0.1)
NAMES = [f"digit {k}" for k in range(10)]


class After(nn.Module):
    """Changes the logits of `inner`."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.inner(x))


class BatchNorm(nn.Module):
    """Batch norm without running statistics in front of `inner`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = nn.BatchNorm1d(64, track_running_stats=False), inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(self.norm(x.flatten(1)))
        return logits


def shifted(logits: Tensor) -> Tensor:
    return logits.roll(1, 1)


def among_many(logits: Tensor) -> Tensor:
    """A head of a thousand classes, of which the data's stand elsewhere."""
    wide = torch.full((len(logits), 1000), -50.0)
    wide[:, 200:210] = logits
    return wide


CASES: dict[str, tuple[Callable[[nn.Module], nn.Module], set[str]]] = {
    "sound": (lambda inner: inner, set()),
    "more outputs than classes, never used": (
        lambda inner: After(inner, lambda z: nn.functional.pad(z, (0, 5))),
        set(),
    ),
    "shifted": (lambda inner: After(inner, shifted), {"permuted_labels", "below_chance"}),
    "two classes exchanged": (
        lambda inner: After(inner, lambda z: z[:, [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]]),
        {"permuted_labels"},
    ),
    "reversed": (lambda inner: After(inner, lambda z: z.flip(1)), {"permuted_labels", "below_chance"}),
    "most of a thousand": (
        lambda inner: After(inner, among_many),
        {"unused_classes", "permuted_labels", "below_chance"},
    ),
    "one class unknown": (lambda inner: After(inner, lambda z: z - 100 * (torch.arange(10) == 3)), set()),
    "random": (lambda inner: After(inner, lambda z: torch.sin(1e3 * z)), set()),
    "collapsed": (lambda inner: After(inner, lambda z: z + 100 * (torch.arange(10) == 4)), {"collapsed"}),
    "nearly collapsed": (lambda inner: After(inner, lambda z: z + 24 * (torch.arange(10) == 4)), {"collapsed"}),
    "sigmoid": (lambda inner: After(inner, torch.sigmoid), {"sigmoid_outputs"}),
    "softmax": (lambda inner: After(inner, lambda z: z.softmax(1)), {"probabilities"}),
    "batch statistics": (BatchNorm, {"batch_dependent"}),
    "norm of the batch": (lambda inner: After(inner, lambda z: 9 * z / z.norm()), {"batch_dependent"}),
    "mean of the batch": (lambda inner: After(inner, lambda z: z - z.mean(0)), {"batch_dependent"}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_head_raises_its_flags_and_no_others(case: str, digits_net: Any) -> None:
    change, expected = CASES[case]
    x, y = digits_net.test
    # Sorted by class, so that the first batch shows two of ten.
    order = y.argsort(stable=True)
    x, y = x[order], y[order]
    loader = list(zip(x.split(60), y.split(60), strict=True))
    model = change(digits_net.model)
    found = {flag.name: flag.message for flag in evaluate(model, loader, {}, THREAT, class_names=NAMES).flags}
    ours = {"below_chance", "permuted_labels", "collapsed", "unused_classes", "sigmoid_outputs", "probabilities"}
    assert set(found) & (ours | {"batch_dependent"}) == expected
    if case == "shifted":
        assert "digit 1 for digit 0" in found["permuted_labels"]
    if case == "most of a thousand":
        assert "1000 classes apart and the data have 10" in found["unused_classes"]


def test_a_sound_model_raises_none_under_attack(digits_net: Any) -> None:
    attacks = {"fgsm": FGSM(), "pgd": PGD(steps=5)}
    found = evaluate(digits_net.model, [digits_net.test], attacks, THREAT, class_names=NAMES, check_limits=True)
    assert found.flags == []


def test_few_images_prove_nothing(digits_net: Any) -> None:
    model, (x, _) = digits_net
    wrong = (model(x).argmax(1) + 1) % 10
    assert evaluate(model, [(x[:8], wrong[:8])], {}, THREAT).flags == []
    names = [flag.name for flag in evaluate(model, [(x, wrong)], {}, THREAT).flags]
    assert names == ["permuted_labels", "below_chance"]


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_logit_is_read_as_two(shape: tuple[int, ...], digits_net: Any) -> None:
    """Odd digits against even ones: the same figures as the two logits 0 and z, and it is said."""
    inner, (x, digit) = digits_net
    y = digit % 2
    odd = torch.arange(10) % 2 == 1

    def score(z: Tensor) -> Tensor:
        return z[:, odd].logsumexp(1) - z[:, ~odd].logsumexp(1)

    one = After(inner, lambda z: score(z).view(-1, *shape))
    two = After(inner, lambda z: torch.stack([torch.zeros(len(z)), score(z)], 1))
    attacks = {"pgd": PGD(steps=4)}
    found, wanted = (evaluate(model, [(x, y)], attacks, THREAT) for model in (one, two))
    assert found.clean_accuracy == wanted.clean_accuracy
    assert found.clean_accuracy.value > 0.9  # type: ignore[operator]
    assert found.worst_case.robust_accuracy == wanted.worst_case.robust_accuracy
    assert [flag.name for flag in found.flags] == ["one_logit"]
    with pytest.raises(RequestError, match="before the sigmoid"):
        evaluate(After(inner, lambda z: score(z).sigmoid().view(-1, *shape)), [(x, y)], attacks, THREAT)


class WritesOnImages(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(After(nn.Identity(), lambda x: (x + 1) / 2), inner)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x.mul_(2).sub_(1))
        return logits


def frozen_script(model: nn.Module) -> nn.Module:
    frozen: nn.Module = torch.jit.freeze(torch.jit.script(model))
    return frozen


FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "double": lambda model: model.double(),
    "half": lambda model: model.half(),
    "bfloat16": lambda model: model.bfloat16(),
    "writes on its images": WritesOnImages,
    "frozen": lambda model: model.requires_grad_(False),
    "in training mode": lambda model: model.train(),
    "a script": torch.jit.script,
    "a frozen script": frozen_script,
    "a function": lambda model: lambda x: model(x),
    "a bound method": lambda model: model.forward,
    "a tuple, wrapped": lambda model: Wrapped(lambda x: (x, model(x)), 1),
    "an object, wrapped": lambda model: Wrapped(lambda x: type("Output", (), {"logits": model(x)})(), "logits"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_every_form_of_a_model_gives_the_figures_of_the_model(form: str, digits_net: Any) -> None:
    model, (x, y) = digits_net
    x, y = x[:101], y[:101]
    loader = list(zip(x.split(50), y.split(50), strict=True))
    attacks = {"fgsm": FGSM(), "pgd": PGD(steps=4)}
    wanted = evaluate(model, loader, attacks, THREAT)
    found = evaluate(FORMS[form](model), loader, attacks, THREAT)
    # Sixteen bits decide the odd image otherwise; so does what is written on the images.
    spare = 3 / 101 if form in ("half", "bfloat16", "writes on its images") else 0
    for rates in (
        (found.clean_accuracy, wanted.clean_accuracy),
        (found.worst_case.robust_accuracy, wanted.worst_case.robust_accuracy),
    ):
        assert rates[0].value == pytest.approx(rates[1].value, abs=spare + 1e-9)
    assert found.flags == []
    assert torch.equal(x, digits_net.test.x[:101])


def test_images_that_a_model_cannot_take_are_refused_in_a_line(digits_net: Any) -> None:
    _, (x, y) = digits_net
    for model in (nn.Linear(7, 10), nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())):
        with pytest.raises(RequestError, match=r"cannot take images of shape \(2, 1, 8, 8\)") as refusal:
            evaluate(model, [(x, y)], {}, THREAT)
        assert "\n" not in str(refusal.value)

    class OnlyFifty(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert len(x) > 1, "expected more than 1 value per channel"
            return x.flatten(1)[:, :10]

    with pytest.raises(RequestError, match=r"fails on batch 1, 1 images.*more than 1 value"):
        evaluate(OnlyFifty(), [(x[:50], y[:50]), (x[50:51], y[50:51])], {}, THREAT)


def test_what_needs_nothing_stays_as_it_is(digits_net: Any) -> None:
    model, (x, _) = digits_net
    assert fitted(model, x[:2]) is model


def test_no_gradients_are_a_flag_and_a_line(digits_net: Any) -> None:
    model, test = digits_net
    quiet = torch.no_grad()(model.forward)
    assert [flag.name for flag in evaluate(quiet, [test], {}, THREAT).flags] == ["no_gradients"]
    with pytest.raises(Exception, match="attack 'fgsm' failed: RuntimeError") as refusal:
        evaluate(quiet, [test], {"fgsm": FGSM()}, THREAT)
    assert "\n" not in str(refusal.value)
