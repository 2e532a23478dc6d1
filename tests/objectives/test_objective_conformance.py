"""One table of objectives, and what every one of them has to keep to. A new objective is a new row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from robustml.attacks import FGSM, KLPGD, MSD, PGD, Within
from robustml.config import config_dir
from robustml.errors import RequestError
from robustml.evaluation.conformance import OBJECTIVE_PROPERTIES, check_objective
from robustml.objectives import (
    AWP,
    HAT,
    MART,
    TRADES,
    Adversarial,
    Free,
    GaussianNoise,
    GradAlign,
    IntervalBound,
    LogitPairing,
    SeveralNorms,
    Standard,
)
from robustml.threats import LpBall, Union
from robustml.types import LossOutput, Objective, Threat

THREAT = LpBall("inf", 0.1)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "standard": Standard,
    "adversarial": lambda: Adversarial(PGD(steps=2)),
    "mixture": lambda: Adversarial(PGD(steps=2), share=0.5, attack_mode="train"),
    "clean": lambda: Adversarial(PGD(steps=2), share=0.0),
    "gaussian": lambda: GaussianNoise(sigma=0.2),
    "interval": lambda: IntervalBound(),
    "awp": lambda: AWP(Adversarial(PGD(steps=2))),
    "awp-interval": lambda: AWP(IntervalBound()),
    "free": lambda: Free(),
    "max_norms": lambda: SeveralNorms({"inf": FGSM(), "2": Within(PGD(steps=2), LpBall(2, 0.5))}),
    "msd": lambda: Adversarial(Within(MSD(steps=2), Union([THREAT, LpBall(2, 0.5)]))),
    "batch_stats": lambda: Adversarial(FGSM(), attack_mode="batch_stats"),
    "trades": lambda: TRADES(KLPGD(steps=2)),
    "mart": lambda: MART(PGD(steps=2, start_noise=0.001), attack_mode="batch_stats"),
    "hat": lambda: HAT(KLPGD(steps=2), nn.Sequential(nn.Flatten(), nn.Linear(256, 10))),
    "grad_align": lambda: GradAlign(FGSM()),
    "grad_align-2": lambda: GradAlign(FGSM(), attack_mode="train"),
    "logit_pairing": lambda: LogitPairing(PGD(steps=2), attack_mode="train"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_conformance(name: str) -> None:
    """What `robustml check objective=...` examines."""
    objective = OBJECTIVES[name]()
    assert isinstance(objective, Objective)
    findings = check_objective(objective, THREAT)
    assert len(findings) == len(OBJECTIVE_PROPERTIES)
    assert {finding.name: finding.reason for finding in findings if finding.outcome != "pass"} == {}


class Broken(Standard):
    """Standard training with one fault."""

    fault = ""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        if self.fault == "model unchanged by crafting":
            model.eval()
        return x.requires_grad_() if self.fault == "images to train on" else x

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        loss, logits, logs = super().loss(model, x, x_adv, y, threat)
        if self.fault == "arguments unchanged":
            y.zero_()
        changed = loss / 0 if self.fault == "one finite number" else loss
        return LossOutput(changed, logits[:, :3] if self.fault == "logits" else logits, logs)


@pytest.mark.parametrize(
    "fault",
    ["images to train on", "model unchanged by crafting", "arguments unchanged", "one finite number", "logits"],
)
def test_a_fault_is_named(fault: str) -> None:
    objective = type("Faulty", (Broken,), {"fault": fault})()
    assert fault in [finding.name for finding in check_objective(objective, THREAT) if finding.bad]


@pytest.mark.parametrize(
    "objective", [TRADES(), MART(), HAT(helper=nn.Flatten())], ids=lambda each: type(each).__name__
)
def test_the_attack_by_default_is_that_of_the_config(objective: TRADES | MART | HAT) -> None:
    helper = ["objective.helper.run_dir=none"] if isinstance(objective, HAT) else []
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [f"objective={type(objective).__name__.lower()}", *helper])
    assert instantiate(config.objective.attack) == objective.attack


def test_hat_refuses_to_go_without_a_helper() -> None:
    with pytest.raises(RequestError, match="helper"):
        HAT()
