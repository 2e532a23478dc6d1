"""Accuracy under corruptions, on models whose figures can be worked out by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustml.data.corruptions import CORRUPTIONS
from robustml.errors import RequestError
from robustml.evaluation import CorruptionResults, corruption_accuracy
from robustml.reporting.tables.measured import corruption_table
from robustml.results import Corruptions, rate, read_results


class Brighter(nn.Module):
    """Class 1 where the mean of an image is above 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2, 3))
        return torch.stack([torch.full_like(mean, 0.5), mean], dim=1)


def flat_images(*levels: float) -> Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()


def test_figures_by_hand() -> None:
    # all of class 0; brightness adds 0.05, 0.1, 0.15, 0.2, 0.3 and so tips 1, 1, 2, 2, 4 of the five over 0.5
    x = flat_images(0.48, 0.38, 0.27, 0.21, 0.1)
    loader = [(x[:2], torch.zeros(2, dtype=torch.long)), (x[2:], torch.zeros(3, dtype=torch.long))]
    results = corruption_accuracy(Brighter(), loader, corruptions=["brightness", "contrast"])
    right = {severity: results.accuracy["brightness", severity].value for severity in (1, 2, 3, 4, 5)}
    assert right == {1: 0.8, 2: 0.8, 3: 0.6, 4: 0.6, 5: 0.2}
    # contrast keeps the mean
    assert all(results.accuracy["contrast", severity] == rate(5, 5) for severity in (1, 2, 3, 4, 5))
    assert results.mean_accuracy == pytest.approx((3.0 + 5) / 10)
    assert results.mean_corruption_error == pytest.approx(0.2)
    block = Corruptions.model_validate(results.to_dict())
    assert [point.severity for point in block.accuracy["brightness"]] == [1, 2, 3, 4, 5]
    assert block.accuracy["brightness"][0].accuracy == rate(4, 5)


def near_the_threshold() -> list[tuple[Tensor, Tensor]]:
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    y = (x.mean(dim=(1, 2, 3)) > 0.5).long()
    return [(x[:25], y[:25]), (x[25:], y[25:])]


def test_the_seed_decides() -> None:
    names, loader, state = ["gaussian_noise", "elastic_transform"], near_the_threshold(), torch.random.get_rng_state()
    first, again, other = (corruption_accuracy(Brighter(), loader, corruptions=names, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_model_is_left_as_found(conv_model: nn.Module) -> None:
    conv_model[1].train()
    before = copy.deepcopy(conv_model.state_dict())
    model = nn.Sequential(nn.AdaptiveAvgPool2d(6), conv_model)
    modes = [module.training for module in model.modules()]
    corruption_accuracy(model, near_the_threshold(), corruptions=["brightness"])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in conv_model.state_dict().items())


def test_a_part_of_the_corruptions_gives_the_same_figures() -> None:
    loader = near_the_threshold()
    whole = corruption_accuracy(Brighter(), loader)
    assert len(whole.accuracy) == 15 * 5
    part = corruption_accuracy(Brighter(), loader, corruptions=["fog"], severities=[4, 2])
    assert part.accuracy == {("fog", severity): whole.accuracy["fog", severity] for severity in (2, 4)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"corruptions": ["snoww"]}, "'snow'"),
        ({"severities": [0]}, "severity"),
        ({"severities": []}, "at least one"),
        ({"corruptions": []}, "at least one"),
    ],
)
def test_what_it_refuses(settings: dict[str, list[str] | list[int]], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        corruption_accuracy(Brighter(), [], **settings)


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(RequestError, match="no batches"):
        corruption_accuracy(Brighter(), [])


def test_images_out_of_range_are_refused() -> None:
    with pytest.raises(RequestError, match="divide by 255"):
        corruption_accuracy(Brighter(), [(flat_images(20.0), torch.zeros(1, dtype=torch.long))])


def test_the_report_shows_them(tmp_path: Path) -> None:
    from reporting.conftest import make_results

    from robustml.results import write_results

    cells = {(name, severity): rate(300 - 40 * severity, 360) for name in CORRUPTIONS for severity in (1, 3, 5)}
    block = CorruptionResults(cells).to_dict()
    write_results(make_results() | {"corruptions": block}, tmp_path / "results.json")
    assert read_results(tmp_path).corruptions is not None
    table = corruption_table(read_results(tmp_path).corruptions, rate(340, 360))
    assert list(table.headings) == ["corruption", "severity 1", "severity 3", "severity 5", "mean"]
    assert [row[1].text for row in table.cells] == ["72.2%"] * 16, "15 corruptions at severity 1, and their mean"
    assert "not the published files" in table.note
