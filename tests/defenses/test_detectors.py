"""What every detector keeps to; the rows are found by glob, as those of other kinds are. Oracles stand beside it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from torch import Generator, nn

from robustml.config import config_dir
from robustml.data import Records
from robustml.errors import RequestError
from robustml.types import Detector, Suspicion
from robustml.workflows.settings.building import build

TOY = Path(__file__).parent / "detector"
CONFIGS = sorted([*TOY.glob("*.yaml"), *(config_dir() / "detector").glob("*.yaml")])
CLASSES = 5


class Case(NamedTuple):
    """A detector as its config has it, and what it is asked about."""

    detector: Any
    model: nn.Module
    records: Records
    clean: Records

    def __call__(self, records: Records | None = None, clean: Records | None = None) -> Suspicion:
        generator = Generator().manual_seed(1)
        return self.detector(self.model, records or self.records, clean or self.clean, generator=generator)  # type: ignore[no-any-return]


def images(count: int, seed: int) -> Records:
    """Grey pictures (N, 1, 6, 6), each class brighter than the one before."""
    y = torch.arange(count) % CLASSES
    noise = torch.randint(0, 160, (count, 1, 6, 6), generator=Generator().manual_seed(seed))
    x = (noise + 20 * y[:, None, None, None]).to(torch.uint8)
    return Records(x, y, tuple("abcde"), ids=torch.arange(count) + 1000 * seed)


def built(path: Path) -> Any:
    """The one detector of a config, which is named as its file is, so that several can be chosen beside each other."""
    blocks = yaml.safe_load(path.read_text())
    assert list(blocks) == [path.stem]
    return build(blocks[path.stem])


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest, conv_model: nn.Module) -> Case:
    return Case(built(request.param), conv_model, images(100, 1), images(60, 2))


def test_a_detector_scores_each_record_or_the_model(case: Case) -> None:
    assert isinstance(case.detector, Detector)
    found = case()
    assert torch.isfinite(found.scores).all()
    assert isinstance(found.says_so, bool)
    if found.ids is None:
        assert len(found.scores) in (1, CLASSES)
    else:
        assert torch.equal(found.ids, case.records.ids)
        assert len(found.scores) == len(case.records)
    again = case()
    assert torch.equal(again.scores, found.scores), "all that is drawn comes from the generator"
    assert (again.threshold, again.found, again.facts) == (found.threshold, found.found, found.facts)


def test_a_score_belongs_to_a_record(case: Case) -> None:
    """Under other ids and in another order a record gets the same score, and it is not looked up by its id."""
    found = case()
    order = torch.randperm(len(case.records), generator=Generator().manual_seed(2))
    if getattr(case.detector, "by_position", False):  # the row is what it judges
        order = order.sort().values
    mixed = case.records.take(order)
    mixed = Records(mixed.x, mixed.y, mixed.class_names, ids=torch.arange(len(order)) + 7)
    again = case(mixed)
    if found.ids is None:
        torch.testing.assert_close(again.scores, found.scores, rtol=1e-3, atol=1e-3)
    else:
        assert torch.equal(again.ids, mixed.ids)
        torch.testing.assert_close(again.scores, found.scores[order], rtol=1e-3, atol=1e-5)
    assert again.threshold == pytest.approx(found.threshold, rel=1e-3)
    assert again.says_so == found.says_so


def test_a_detector_leaves_all_as_it_found_it(case: Case) -> None:
    model = case.model
    model[1].train()
    first, last = next(model.parameters()), list(model.parameters())[-1]
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    state, modes = copy.deepcopy(model.state_dict()), [each.training for each in model.modules()]
    x, y, clean_x = case.records.x.clone(), case.records.y.clone(), case.clean.x.clone()
    drawn = torch.random.get_rng_state()
    case()
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [each.training for each in model.modules()] == modes
    assert [each.requires_grad for each in model.parameters()] == [False] + [True] * (len(list(model.parameters())) - 1)
    assert [each.grad is None for each in model.parameters()][:-1] == [True] * (len(list(model.parameters())) - 1)
    assert torch.equal(last.grad, torch.ones_like(last))
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert torch.equal(case.records.x, x)
    assert torch.equal(case.records.y, y)
    assert torch.equal(case.clean.x, clean_x)


@pytest.mark.parametrize("what", ["no clean records", "one clean record", "one record", "rows of a table"])
def test_what_does_not_fit_is_refused_in_one_line(case: Case, what: str, linear_model: nn.Module) -> None:
    """Or it is done all the same; no detector fails in another way."""
    model, records, clean = case.model, case.records, case.clean
    asked: tuple[nn.Module, Records, Records | None] = {
        "no clean records": (model, records, None),
        "one clean record": (model, records, clean.take(torch.tensor([0]))),
        "one record": (model, records.take(torch.tensor([0])), clean),
        "rows of a table": (linear_model, table(records), table(clean)),
    }[what]
    try:
        found = case.detector(*asked, generator=Generator().manual_seed(1))
    except RequestError as refusal:
        said = str(refusal)
    else:
        said = ""
        assert torch.isfinite(found.scores).all()
    assert "\n" not in said


def table(records: Records) -> Records:
    """Rows (N, 12) in place of pictures."""
    x = records.x.flatten(1)[:, :12] / 255
    return Records(x, records.y, records.class_names, ids=records.ids)


def test_far_from_class_finds_what_lies_far() -> None:
    detector = built(TOY / "far_from_class.yaml")
    generator = Generator().manual_seed(0)
    data = Records(torch.rand(24, 6, generator=generator), torch.arange(24) % 2, ("a", "b"))
    data.x[5] += 10
    found = detector(nn.Identity(), data)
    assert (found.scores > found.threshold).nonzero().flatten().tolist() == [5]
    # by hand: three points of one class at 0, 0 and 3 have the mean 1, the distances 1, 1 and 2, and 4/3 on average
    three = Records(torch.tensor([[0.0], [0.0], [1.0]]), torch.zeros(3, dtype=torch.int64), ("a",))
    scores = detector(nn.Identity(), three).scores
    torch.testing.assert_close(scores, torch.tensor([0.75, 0.75, 1.5], dtype=torch.float64))


def test_far_from_class_refuses_no_threshold() -> None:
    with pytest.raises(RequestError, match="threshold"):
        build({"_target_": "defenses.far_from_class.FarFromClass", "threshold": 0})
