"""Runs that version 0.1 wrote are read by everything that reads runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from integration.forks import command

import robustml

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
