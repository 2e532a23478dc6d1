from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustml.attacks import FGSM, FGSMRS, PGD
from robustml.errors import RequestError
from robustml.objectives import Adversarial, Standard
from robustml.threats import LpBall
from robustml.training.attack_changes import with_attack, with_smaller_steps
from robustml.types import Attack, LossOutput, Objective

THREAT = LpBall("inf", 0.1)


@dataclass(frozen=True)
class Wrapper:
    """The shape of AWP: an objective around another."""

    objective: Objective
    gamma: float = 0.5

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Any) -> Tensor:
        return self.objective.perturb(model, x, y, threat)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Any) -> LossOutput:
        return self.objective.loss(model, x, x_adv, y, threat)


class Module(nn.Module):
    """An objective with a buffer and a submodule of its own, which are not to be lost or doubled."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.teacher = nn.Linear(2, 2)
        self.register_buffer("step", torch.tensor(0))

    perturb = Wrapper.perturb
    loss = Wrapper.loss


def more_steps(attack: Attack) -> Attack:
    return replace(attack, steps=7)  # type: ignore[type-var]


def test_the_attack_is_found_in_whatever_wraps_it_and_the_original_stays() -> None:
    inner = Adversarial(PGD(steps=3), share=0.7)
    module = Module(Wrapper(inner))
    changed = with_attack(module, more_steps)
    assert changed.objective.objective == Adversarial(PGD(steps=7), share=0.7)
    assert changed.objective.gamma == 0.5
    assert module.objective.objective is inner
    assert inner.attack.steps == 3
    assert changed.step is module.step
    assert changed.teacher is module.teacher


def test_a_module_within_a_module_is_replaced_in_the_copy_alone() -> None:
    outer = Module(Module(Adversarial(PGD(steps=3))))
    changed = with_attack(outer, more_steps)
    assert changed.objective.objective.attack.steps == 7
    assert outer.objective.objective.attack.steps == 3
    assert set(changed.state_dict()) == set(outer.state_dict())


@pytest.mark.parametrize("objective", [Standard(), Wrapper(Standard()), Module(Standard())])
def test_an_objective_without_an_attack_is_refused_by_its_name(objective: Objective) -> None:
    with pytest.raises(RequestError, match="Standard has no attack"):
        with_attack(objective, more_steps)


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(),
        FGSM(loss="margin"),
        FGSMRS(),
        FGSMRS(step_size=0.03, clip_start=True),
        FGSMRS(relative_step_size=0.5),
        PGD(steps=3),
        PGD(steps=3, step_size=0.02, restarts=2),
    ],
    ids=repr,
)
def test_by_a_factor_of_1_an_attack_is_itself(attack: Attack, linear_model: nn.Module) -> None:
    """The defaults of the steps are those of the attacks themselves, wherever they are written."""
    x, y = torch.rand(6, 12), torch.arange(6) % 5
    results = []
    for one in (attack, with_smaller_steps(attack, 1.0)):
        torch.manual_seed(3)
        results.append(one(linear_model, x, y, THREAT))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("attack", "step_size", "relative", "steps"),
    [
        (FGSM(), None, 0.5, 3),
        (FGSMRS(), None, 0.625, 3),
        (FGSMRS(step_size=0.12), 0.06, None, 3),
        (PGD(steps=5), None, 0.25, 7),
        (PGD(steps=5, step_size=0.02), 0.01, None, 7),
    ],
    ids=repr,
)
def test_the_step_is_multiplied_and_steps_are_added(
    attack: Attack, step_size: float | None, relative: float | None, steps: int
) -> None:
    lowered = with_smaller_steps(attack, 0.5, extra_steps=2)
    assert isinstance(lowered, PGD)
    assert (lowered.step_size, lowered.relative_step_size, lowered.steps) == (step_size, relative, steps)


def test_an_attack_without_steps_is_refused_by_its_name() -> None:
    def noise(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return x

    with pytest.raises(RequestError, match="function cannot be lowered"):
        with_smaller_steps(noise, 0.5)
