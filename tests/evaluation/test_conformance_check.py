# ruff: noqa: NPY002  (an attack that reseeds numpy is one of those to be caught)
"""The check of attacks: each broken attack is caught by the name of what it breaks, sound ones pass everything."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks import FGSM, PGD, TorchAttack
from robustml.evaluation.conformance import PROPERTIES, Finding, check_attack
from robustml.threats import LpBall
from robustml.types import Threat

INF = LpBall("inf", 0.1)
Step = Callable[[nn.Module, Tensor, Tensor, Generator | None], Tensor]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bad(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.reason for finding in findings if finding.bad}


class Made:
    """An attack that is nothing but a function, and carries its own budget."""

    def __init__(self, step: Step) -> None:
        self.step = step

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        return self.step(model, x, y, generator)


def honest(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None = None) -> Tensor:
    return FGSM()(model, x, y, INF, generator=generator)


def leaves_the_ball(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return (x + 1.5 * (honest(model, x, y) - x)).clamp(0, 1)


def leaves_the_box(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return x + 0.1 * (honest(model, x, y) - x).sign() + 0.01


def divides_by_zero(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    moved = honest(model, x, y) - x
    norms = moved.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
    return INF.project(x + moved / norms, x)


def moves_batch_norm(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    modes = [module.training for module in model.modules()]
    model.train()
    x_adv = honest(model, x.expand(2, *x.shape[1:]) if len(x) == 1 else x, y.expand(2) if len(x) == 1 else y)[: len(x)]
    for module, training in zip(model.modules(), modes, strict=True):
        module.training = training
    return x_adv


def reseeds(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    torch.manual_seed(0)
    return honest(model, x, y)


def reseeds_numpy(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    np.random.seed(0)
    return honest(model, x, y)


def ignores_its_generator(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return INF.sample(x) if random.random() < 2 else x


def returns_float64(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return honest(model, x, y).double()


def returns_vectors(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return honest(model, x, y).flatten(1)


def one_norm_over_the_batch(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.clone().detach().requires_grad_()
        loss = functional.cross_entropy(model(leaf), y.clone(), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return INF.project(x.detach() + gradient / gradient.norm().clamp_min(1e-12), x.detach())


def leaves_requires_grad(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return honest(model, x, y)


def leaves_gradients(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.clone().detach().requires_grad_()
        functional.cross_entropy(model(leaf), y.clone()).backward()
        assert leaf.grad is not None
        return (leaf + 0.1 * leaf.grad.sign()).clamp(0, 1).detach()


def leaves_eval_mode(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    model.eval()
    return honest(model, x, y)


def trains_afterwards(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    training = model.training
    model.eval()
    x_adv = honest(model, x, y)
    model.train(training)
    return x_adv


def keeps_the_model_frozen_on_failure(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    x_adv = honest(model, x, y)
    for parameter in wanted:
        parameter.requires_grad_(True)
    return x_adv


def changes_its_images(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    x_adv = honest(model, x, y)
    x.data.add_(0.001)
    return x_adv


def returns_its_images(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return x


def needs_gradients(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    leaf = x.clone().detach().requires_grad_()
    loss = functional.cross_entropy(model(leaf), y)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return (leaf + 0.1 * gradient.sign()).clamp(0, 1).detach()


def walks_downhill(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return INF.project(2 * x - honest(model, x, y), x)


def keeps_the_graph(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    return x + (honest(model, x, y) - x.detach())


def knows_ten_classes(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    with torch.no_grad():
        model(x)[:, 9]
    return honest(model, x, y)


def stops_for_all_at_once(model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor:
    """Early stopping over the batch: CW in torchattacks 3.5.1 does so."""
    x_adv = x.detach().clone()
    for _ in range(10):
        with torch.no_grad():
            if (model(x_adv).argmax(1) != y).all():
                break
        x_adv = INF.project(x_adv + 0.2 * (FGSM()(model, x_adv, y, INF) - x_adv), x.detach())
    return x_adv


BROKEN: dict[Step, str] = {
    leaves_the_ball: "budget",
    leaves_the_box: "image range",
    divides_by_zero: "a model without gradient",
    moves_batch_norm: "weights and buffers unchanged",
    reseeds: "global random state unchanged",
    reseeds_numpy: "global random state unchanged",
    ignores_its_generator: "same seed, same result",
    returns_float64: "shape and dtype",
    returns_vectors: "shape and dtype",
    one_norm_over_the_batch: "a batch gives what its images give",
    stops_for_all_at_once: "a batch gives what its images give",
    leaves_requires_grad: "requires_grad unchanged",
    leaves_gradients: ".grad unchanged",
    leaves_eval_mode: "modes unchanged",
    trains_afterwards: "modes unchanged",
    keeps_the_model_frozen_on_failure: "all that after a failure",
    changes_its_images: "arguments unchanged",
    returns_its_images: "own memory",
    needs_gradients: "under no_grad",
    walks_downhill: "no weaker than noise",
    keeps_the_graph: "detached",
    knows_ten_classes: "2 classes",
}


@pytest.mark.parametrize("step", BROKEN, ids=lambda step: step.__name__)
def test_a_broken_attack_is_caught_by_name(step: Step) -> None:
    assert BROKEN[step] in bad(check_attack(Made(step), INF))


def test_the_function_that_the_broken_ones_are_made_of_passes() -> None:
    assert bad(check_attack(Made(honest), INF)) == {}


def test_an_attack_that_returns_its_images_fools_nothing() -> None:
    findings = bad(check_attack(Made(lambda model, x, y, generator: x.detach().clone()), INF))
    assert list(findings) == ["no weaker than noise"]
    assert "fools no image" in findings["no weaker than noise"]


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(),
        PGD(steps=5, loss="margin"),
        TorchAttack("PGD", {"steps": 3}),
    ],
    ids=repr,
)
def test_sound_attacks_pass(attack: FGSM | PGD | TorchAttack) -> None:
    findings = check_attack(attack, INF)
    assert bad(findings) == {}
    assert [finding.name for finding in findings] == list(PROPERTIES)
    outcomes = {finding.name: finding.outcome for finding in findings}
    assert outcomes["no weaker with more steps"] == ("not applicable" if isinstance(attack, FGSM) else "pass")
    # A random start is replaced by one that depends on the image alone, so that a batch can be compared.
    compared = "not applicable" if isinstance(attack, TorchAttack) else "pass"
    assert outcomes["a batch gives what its images give"] == compared


def test_a_random_attack_with_a_batch_norm_of_its_gradients_is_caught() -> None:
    @dataclass(frozen=True)
    class Random:
        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Any = None) -> Tensor:
            start = threat.sample(x, generator).detach()
            return threat.project(one_norm_over_the_batch(model, start, y, generator), x.detach())

    assert "a batch gives what its images give" in bad(check_attack(Random(), INF))


def test_more_steps_and_more_budget_that_make_it_weaker_are_caught() -> None:
    @dataclass(frozen=True)
    class Tires:
        steps: int = 10

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Any = None) -> Tensor:
            tired = self.steps > 5 or threat.eps > 0.09
            return x.detach().clone() if tired else FGSM()(model, x, y, threat)

    found = bad(check_attack(Tires(steps=3), INF))
    assert {"no weaker with twice the budget", "no weaker than noise"} <= set(found)
    assert "no weaker with more steps" in bad(check_attack(Tires(), LpBall("inf", 0.08)))


def test_an_attack_that_cannot_run_is_examined_no_further() -> None:
    def wants_more(model: nn.Module, x: Tensor, y: Tensor, masks: Tensor) -> Tensor:
        return x

    seen: list[Finding] = []
    findings = check_attack(wants_more, INF, on_finding=seen.append)  # type: ignore[arg-type]
    assert findings == seen
    assert [(finding.name, finding.outcome) for finding in findings] == [("runs", "error")]
    assert "TypeError" in findings[0].reason
    assert "masks" in findings[0].reason


def test_a_refusal_is_no_fault() -> None:
    findings = {finding.name: finding for finding in check_attack(PGD(steps=2, loss="dlr"), INF)}
    assert findings["2 classes"].outcome == "not applicable"
    assert "3 classes" in findings["2 classes"].reason
    assert not findings["2 classes"].bad


def test_an_attack_that_takes_neither_threat_nor_generator_is_called_without_them() -> None:
    findings = check_attack(lambda model, x, y: honest(model, x, y), INF)
    assert bad(findings) == {}
    left_out = {finding.name for finding in findings if finding.outcome == "not applicable"}
    assert {"a budget of 0 changes nothing", "no weaker with twice the budget"} <= left_out


def test_the_global_random_state_is_left_as_found() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    check_attack(Made(reseeds), INF)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
