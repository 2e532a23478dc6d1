"""What every detector keeps to, and an oracle for each; the rows are found by glob, as those of other kinds are."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Generator, nn

from robustml.data import Records
from robustml.errors import RequestError
from robustml.types import Detector
from robustml.workflows.settings.building import build

CONFIGS = sorted((Path(__file__).parent / "detector").glob("*.yaml"))


def records(count: int = 24) -> Records:
    generator = Generator().manual_seed(0)
    return Records(torch.rand(count, 6, generator=generator), torch.arange(count) % 2, ("a", "b"))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def detector(request: pytest.FixtureRequest) -> Any:
    return build(yaml.safe_load(request.param.read_text()))


def test_a_detector_keeps_to_its_protocol(detector: Any, linear_model: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(6, 12), linear_model)
    before, data = copy.deepcopy(model.state_dict()), records()
    found = detector(model, data, generator=Generator().manual_seed(1))
    assert isinstance(detector, Detector)
    assert torch.isfinite(found.scores).all()
    if found.ids is not None:
        assert torch.equal(found.ids, data.ids)
        order = torch.randperm(len(data.y), generator=Generator().manual_seed(2))
        again = detector(model, data.take(order), generator=Generator().manual_seed(1))
        assert torch.equal(again.ids, data.ids[order]), "a score belongs to a record, not to its row"
        torch.testing.assert_close(again.scores, found.scores[order])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_far_from_class_finds_what_lies_far() -> None:
    data = records()
    data.x[5] += 10
    found = build(yaml.safe_load((CONFIGS[0]).read_text()))(nn.Identity(), data)
    assert (found.scores > found.threshold).nonzero().flatten().tolist() == [5]
    # by hand: three points of one class at 0, 0 and 3 have the mean 1, the distances 1, 1 and 2, and 4/3 on average
    three = Records(torch.tensor([[0.0], [0.0], [1.0]]), torch.zeros(3, dtype=torch.int64), ("a",))
    scores = build({"_target_": "defenses.far_from_class.FarFromClass"})(nn.Identity(), three).scores
    torch.testing.assert_close(scores, torch.tensor([0.75, 0.75, 1.5], dtype=torch.float64))


def test_far_from_class_refuses_no_threshold() -> None:
    with pytest.raises(RequestError, match="threshold"):
        build({"_target_": "defenses.far_from_class.FarFromClass", "threshold": 0})
