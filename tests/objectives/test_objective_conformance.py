"""One table of objectives, and what every one of them has to keep to. A new objective is a new row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from robustml.attacks import FGSM, KLPGD, MSD, PGD, Within
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
from robustml.types import Objective

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
    "hat": lambda: HAT(KLPGD(steps=2), nn.Sequential(nn.Flatten(), nn.Linear(36, 5))),
    "grad_align": lambda: GradAlign(FGSM()),
    "grad_align-2": lambda: GradAlign(FGSM(), attack_mode="train"),
    "logit_pairing": lambda: LogitPairing(PGD(steps=2), attack_mode="train"),
}


@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
def test_conformance(make: Callable[[], Objective], conv_model: nn.Module, image_batch: Any) -> None:
    objective, (x, y) = make(), image_batch
    assert isinstance(objective, Objective)
    conv_model.train()
    conv_model[1].eval()
    modes = [module.training for module in conv_model.modules()]
    x_adv = objective.perturb(conv_model, x, y, THREAT)
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert x_adv.grad_fn is None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in conv_model.parameters())
    output = objective.loss(conv_model, x, x_adv, y, THREAT)
    assert output.loss.shape == ()
    assert output.loss.requires_grad
    assert output.logits.shape == (8, 5)
    assert [module.training for module in conv_model.modules()] == modes
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in conv_model.parameters())
