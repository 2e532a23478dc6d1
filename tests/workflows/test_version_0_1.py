"""Runs that version 0.1 wrote are read by everything that reads runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.forks import command

import robustml
from robustml.attacks import PGD, Within
from robustml.objectives import Adversarial, Free
from robustml.threats import LpBall
from robustml.workflows.reading.version_0_1 import without_threats
from robustml.workflows.settings.building import build

RUNS = Path(__file__).parents[1] / "fixtures" / "version_0_1"
TRAINED = ("clean", "poisoned", "poisoned/finetuned", "schedules", "chained")
TROJAN = "clean/trojans/first"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of all of them, to write into."""
    return shutil.copytree(RUNS, tmp_path / "runs")


@pytest.mark.parametrize("name", [*TRAINED, TROJAN])
def test_its_model_is_loaded(name: str) -> None:
    with torch.no_grad():
        assert robustml.load_model(RUNS / name)(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("name", TRAINED)
def test_evaluating_it_again_gives_its_figures(name: str, runs: Path, tmp_path: Path) -> None:
    # its path was taken out of the config, as if it had been moved
    planted = [f"backdoor_of={runs / 'poisoned'}"] if name == "poisoned/finetuned" else []
    outcome = command("evaluate", f"run={runs / name}", *planted, cwd=tmp_path)
    before, after = (json.loads((place / "results.json").read_text()) for place in (runs / name, outcome.run))
    for figure in ("clean_accuracy", "worst_case", "attacks"):
        for result in (before, after):
            for attack in result["attacks"].values():
                attack.pop("seconds", None)
        assert after[figure] == before[figure]
    assert (after["backdoor"] is None) == (before["backdoor"] is None)


@pytest.mark.parametrize("name", ["clean", "poisoned", "chained"])
def test_its_training_goes_on(name: str, runs: Path, tmp_path: Path) -> None:
    rows = len((runs / name / "metrics.csv").read_text().splitlines())
    outcome = command(
        "train", f"resume={runs / name}", f"trainer.max_epochs={rows}", "evaluation.limit=10", cwd=tmp_path
    )
    assert outcome.status == 0, outcome.err
    assert len((runs / name / "metrics.csv").read_text().splitlines()) == rows + 1


def test_what_stands_beside_it_is_read(runs: Path, tmp_path: Path) -> None:
    for words in (
        ("report", *(runs / name for name in TRAINED)),
        ("report", runs / TROJAN),
        ("report", runs / "clean/extractions/copy"),
        ("card", runs / "clean"),
        ("evaluate", f"resume={runs / 'clean/evaluations/first'}", f"run={runs / 'clean'}"),
    ):
        outcome = command(*words, cwd=tmp_path)
        assert outcome.status == 0, outcome.err


OWN: dict[str, Any] = {"_target_": "robustml.threats.LpBall", "p": "inf", "eps": 0.3}
OTHER = OWN | {"eps": 0.1}


def test_copies_of_the_threat_go_and_other_threats_stay() -> None:
    pgd = {"_target_": "robustml.attacks.PGD", "steps": 3}
    settings = {
        "threat": OWN,
        "objective": {"_target_": "robustml.objectives.Adversarial", "attack": pgd | {"threat": OWN}},
        "evaluation": {"attacks": {"own": pgd | {"threat": dict(OWN)}, "weak": pgd | {"threat": OTHER}}},
        "poison": {"_target_": "robustml.poisoning.InjectAdversarial", "attack": pgd | {"threat": OTHER}},
        "callbacks": {"health": {"_target_": "robustml.training.callbacks.CatastrophicOverfitting", "threat": OWN}},
        "free": {"_target_": "robustml.objectives.Free", "threat": OWN},
    }
    found = without_threats(settings)
    assert found["threat"] == OWN
    assert build(found["objective"]) == Adversarial(PGD(steps=3))
    attacks = build(found["evaluation"]["attacks"])
    assert attacks == {"own": PGD(steps=3), "weak": Within(PGD(steps=3), LpBall("inf", 0.1))}
    assert (found["poison"]["attack"], found["poison"]["threat"]) == (pgd, OTHER)
    assert "threat" not in found["callbacks"]["health"]
    assert isinstance(build(found["free"]), Free)
    assert without_threats(found) == found
