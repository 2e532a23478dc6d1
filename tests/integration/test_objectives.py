"""Every objective trains through the real command and leaves what its method logs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from integration.forks import Outcome, command
from robustml.config import config_dir
from robustml.results import read_results

SHORT = (
    "experiment=digits_pgd",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "data.train_limit=100",
    "data.test_limit=30",
    "validation.attack.steps=1",
    "evaluation=clean",
)
OBJECTIVES = sorted(path.stem for path in (config_dir() / "objective").glob("*.yaml"))


def train(name: str, folder: Path, *words: str) -> Outcome:
    outcome = command("train", *SHORT, f"objective={name}", *words, cwd=folder)
    assert outcome.err == ""
    return outcome


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without attacks, for HAT."""
    folder = tmp_path_factory.mktemp("helper")
    return folder / train("standard", folder).run


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_trains(name: str, helper: Path, tmp_path: Path) -> None:
    run = train(name, tmp_path, *([f"objective.helper.run_dir={helper}"] if name == "hat" else [])).run
    assert 0 <= read_results(tmp_path / run / "results.json").clean_accuracy.value <= 1
    with (tmp_path / run / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["train/loss"]) > 0
    if name in ("trades", "mart", "hat", "logit_pairing"):
        assert 0 <= float(row["train/adversarial_accuracy"]) <= 1
        assert 0 <= float(row["train/clean_accuracy"]) <= 1
    if name == "grad_align":
        assert 0 <= float(row["train/adversarial_accuracy"]) <= 1


def test_methods_craft_with_the_attack_of_their_paper(helper: Path, tmp_path: Path) -> None:
    run = train("mart", tmp_path, "attack=fgsm", "objective.attack.steps=2").run
    attack = yaml.safe_load((tmp_path / run / "config.yaml").read_text())["objective"]["attack"]
    assert attack["_target_"] == "robustml.attacks.PGD"
    assert (attack["steps"], attack["start_noise"], attack["clip_start"]) == (2, 0.001, False)


def test_hat_without_a_helper_says_so(tmp_path: Path) -> None:
    outcome = command("train", *SHORT, "objective=hat", cwd=tmp_path)
    assert outcome.status == 2
    assert "objective.helper.run_dir" in outcome.error


def test_a_negative_weight_is_a_wrong_request(tmp_path: Path) -> None:
    outcome = command("train", *SHORT, "objective=trades", "objective.beta=-1", cwd=tmp_path)
    assert outcome.status == 2
    assert "beta" in outcome.error
