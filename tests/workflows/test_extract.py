"""Every method and every defense through the workflow: what it leaves, counts and writes, on a tiny victim."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Generator, nn

from robustml.attacks import PGD
from robustml.data import DataModule, Digits
from robustml.errors import RequestError
from robustml.extraction import (
    Copycat,
    EquationSolving,
    Extraction,
    InDomain,
    JacobianAugmentation,
    Knockoff,
    NaturalImages,
    Noise,
    OutputNoise,
    PoolSource,
    Prada,
    ReverseSigmoid,
    Rounding,
    StudentTraining,
    TopLabel,
)
from robustml.models import MLP
from robustml.results import DefenseReport, ExtractionResults, Results, read_results
from robustml.threats import LpBall
from robustml.workflows.extract import COPY, extract

QUICK = StudentTraining(steps=10)
THREAT = LpBall("inf", 0.1)


@pytest.fixture(scope="module")
def data() -> DataModule:
    data = DataModule(Digits(), name="digits", train_limit=120, test_limit=40, val_size=0.1)
    data.setup()
    return data


@pytest.fixture(scope="module")
def victim(data: DataModule) -> nn.Module:
    x, y = data.train.x.float() / 255, nn.functional.one_hot(data.train.y, 10).float()
    training = StudentTraining(steps=60, learning_rate=0.01)
    return training(lambda: MLP((1, 8, 8), 10, (16,)), x, y, generator=Generator().manual_seed(1))


def extracted(victim: nn.Module, method: Extraction, data: DataModule, out: Path, **options: object) -> Results:
    sizes = {"budget": 40, "curve": (0.5,), "transfer_limit": 10, "student": lambda: MLP((1, 8, 8), 10, (8,))}
    return extract(victim, method, data, THREAT, out=out, attack=PGD(steps=2), **(sizes | options))  # type: ignore[arg-type]


METHODS: dict[str, tuple[Extraction, PoolSource, int, int]] = {
    "copycat": (Copycat(QUICK), InDomain(), 40, 40),
    "knockoff": (Knockoff(training=QUICK), Noise(), 40, 40),
    "adaptive": (Knockoff("adaptive", QUICK, round_size=16, round_steps=2), NaturalImages(), 40, 40),
    "jacobian": (JacobianAugmentation(10, training=QUICK), InDomain(), 36, 36),
    "equation": (EquationSolving(), Noise(), 70, 70),
    "all that the training part holds": (Copycat(QUICK), InDomain(), 500, 120),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_leaves_a_run(name: str, victim: nn.Module, data: DataModule, tmp_path: Path) -> None:
    method, pool, budget, queries = METHODS[name]
    before = {key: value.clone() for key, value in victim.state_dict().items()}
    results = extracted(victim, method, data, tmp_path, pool=pool, budget=budget)
    found = results.extraction
    assert found is not None
    assert found.queries == queries
    assert [point.queries for point in found.curve] == [queries // 2, queries]
    assert (found.method, found.pool) == (type(method).__name__, type(pool).__name__)
    assert ("training" in found.params) == (name != "equation")
    assert found.accuracy == results.clean_accuracy
    assert found.measuring == found.counted - found.queries == 40 + found.transfer_success.n  # type: ignore[operator]
    assert read_results(tmp_path) == results
    assert (tmp_path / "report.html").is_file()
    assert sum(tensor.numel() for tensor in load_file(tmp_path / COPY).values()) == results.model.parameters
    assert all(torch.equal(value, before[key]) for key, value in victim.state_dict().items())


DEFENSES = {
    "top1": TopLabel(),
    "rounding": Rounding(),
    "reverse sigmoid": ReverseSigmoid(),
    "noise": OutputNoise(0.1, "hidden"),
}


def defended(results: Results) -> tuple[ExtractionResults, DefenseReport]:
    assert results.extraction is not None
    assert results.extraction.defense is not None
    return results.extraction, results.extraction.defense


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_costs_honest_users_something(
    name: str, victim: nn.Module, data: DataModule, tmp_path: Path
) -> None:
    defense, method = DEFENSES[name], Knockoff(training=QUICK)
    results = extracted(victim, method, data, tmp_path, pool=Noise(), make_defense=lambda: defense)
    _, report = defended(results)
    assert report.name == type(defense).__name__
    assert (report.undefended.queries, report.watches, report.alarm_after) == (40, False, None)
    assert report.honest.mean_l1_change > 0
    assert (report.honest.label_accuracy_change == pytest.approx(0, abs=0.05)) or name in ("reverse sigmoid", "noise")
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["defense"]
    assert written["_target_"].endswith(report.name)
    assert "secret" not in report.params
    assert written.get("secret") is None


def test_an_alarm_ends_it(victim: nn.Module, data: DataModule, tmp_path: Path) -> None:
    results = extracted(
        victim, Knockoff(training=QUICK), data, tmp_path,
        pool=Noise(), make_defense=lambda: Prada(0.999, minimum=5), budget=600,
    )  # fmt: skip
    found, report = defended(results)
    assert report.watches
    assert report.alarm_after is not None
    assert report.alarm_after <= found.queries < 600
    assert report.undefended.queries == 600
    assert report.honest.mean_l1_change == 0
    assert report.honest.false_alarm_after is not None


def test_the_same_seed_makes_the_same_copy(victim: nn.Module, data: DataModule, tmp_path: Path) -> None:
    blocks = [
        extracted(victim, Copycat(QUICK), data, tmp_path / str(number), seed=seed).extraction
        for number, seed in enumerate((3, 3, 4))
    ]
    assert blocks[0] == blocks[1] != blocks[2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"budget": 0}, "at least 1"),
        ({"curve": (2,)}, "curve"),
        ({"transfer_limit": 0}, "transfer_limit"),
        ({"student": lambda: MLP((1, 8, 8), 7)}, r"\(1, 7\)"),
        ({"student": lambda: MLP((5,), 10)}, "cannot take inputs"),
        ({"make_defense": lambda: 3}, "int"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    options: dict[str, object], expected: str, victim: nn.Module, data: DataModule, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=expected):
        extracted(victim, Copycat(QUICK), data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
