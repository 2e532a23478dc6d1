"""A user's file over the public API, for `mypy --strict`: what it gets is typed, and its one mistake is found."""

from __future__ import annotations

from typing import assert_type

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import robustml
from robustml.attacks import PGD
from robustml.evaluation import RobustnessResults
from robustml.objectives import TRADES
from robustml.poisoning import BadNets, Square

data = TensorDataset(torch.rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.long))
model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
threat = robustml.LpBall("inf", 8 / 255)


def invert(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """An attack of one's own."""
    return threat.project(1 - x, x)


run = robustml.fit(model, data, TRADES(PGD(steps=2)), threat, out="run", epochs=1)
assert_type(run, robustml.Run)
results = robustml.evaluate(run, attacks={"pgd": PGD(), "invert": invert})
assert_type(results, RobustnessResults)
assert_type(results.worst_case.robust_accuracy.value, float | None)
assert_type(results.clean_accuracy.value, float | None)
assert_type(robustml.load_model("run"), nn.Module)
assert_type(threat.project(torch.rand(1, 4), torch.rand(1, 4)), Tensor)
robustml.poison(data, BadNets(Square(size=2), rate=0.1, target=0), out="poisoned")
threat.eps = "8/255"
