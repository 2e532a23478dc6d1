"""The two verbs whose exit status is the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integration.files import left
from integration.forks import Outcome, command
from robustml.results import rate, read_results

MINE = """
from dataclasses import dataclass

from robustml.attacks import FGSM


@dataclass(frozen=True)
class Mine:
    share: float = 1.0

    def __call__(self, model, x, y, threat, *, generator=None):
        return x.detach() + self.share * (FGSM()(model, x, y, threat) - x.detach())
"""


def test_a_gate_that_is_met(trained: Outcome, tmp_path: Path) -> None:
    worst = read_results(trained.run / "results.json").worst_case.robust_accuracy.value
    words = [f"robust_accuracy@8/255>={worst!r}", "clean_accuracy>0.1", "robust_accuracy:pgd<=1"]
    outcome = command("gate", f"run={trained.run}", *words, cwd=tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    first, *lines = [line for line in outcome.out.splitlines() if not line.startswith(("flags: ", "verdict: "))]
    digest = read_results(trained.run / "results.json").model.sha256
    assert first == f"pass weights: model.safetensors {digest} as in results.json"
    assert [line.split()[:2] for line in lines] == [
        ["pass", f"robust_accuracy@0.0313725>={worst:g}"],
        ["pass", "clean_accuracy>0.1"],
        ["pass", "robust_accuracy:pgd<=1"],
    ]
    outcome = command("gate", f"evaluation={trained.run}", "clean_accuracy>0.1", cwd=tmp_path)
    assert outcome.status == 0


def test_a_gate_that_is_not_met(trained: Outcome, tmp_path: Path) -> None:
    outcome = command("gate", f"run={trained.run}", "clean_accuracy>0.1", "robust_accuracy:cw>=0", cwd=tmp_path)
    assert (outcome.status, outcome.err) == (1, "")
    lines = outcome.out.splitlines()
    assert lines[1].startswith("pass clean_accuracy>0.1")
    assert lines[2].startswith("FAIL robust_accuracy:cw>=0 missing")
    assert command("gate", f"run={trained.run}", "clean_accuracy<0.01", "lower_bound=true", cwd=tmp_path).status == 1


def test_an_evaluation_that_found_less_counts(run_copy: Path, tmp_path: Path) -> None:
    results = json.loads((run_copy / "results.json").read_text())
    results["worst_case"]["robust_accuracy"] = rate(0, results["clean_accuracy"]["n"]).model_dump()
    results["per_class"] = []
    (run_copy / "evaluations" / "later").mkdir(parents=True)
    (run_copy / "evaluations" / "later" / "results.json").write_text(json.dumps(results))
    outcome = command("gate", f"run={run_copy}", "robust_accuracy>=0.01", cwd=tmp_path)
    assert outcome.status == 1
    assert "evaluations/later/results.json" in outcome.out


def test_flags_fail_a_gate_that_allows_none(run_copy: Path, tmp_path: Path) -> None:
    results = json.loads((run_copy / "results.json").read_text())
    results["flags"] = [{"name": "zero_gradients", "attack": None, "message": "no gradient"}]
    (run_copy / "results.json").write_text(json.dumps(results))
    outcome = command("gate", f"run={run_copy}", "clean_accuracy>0.1", cwd=tmp_path)
    assert outcome.status == 0
    assert "flags: zero_gradients in results.json: no gradient" in outcome.out
    outcome = command("gate", f"run={run_copy}", "flags=none", cwd=tmp_path)
    assert outcome.status == 1
    assert "FAIL flags=none 1 raised" in outcome.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run={run}", "needs a condition"),
        ("clean_accuracy>0.1", "run=<dir> or evaluation=<dir>"),
        ("run={run} evaluation={run} clean_accuracy>0.1", "either"),
        ("run=none clean_accuracy>0.1", "none/results.json"),
        ("run={run} clean_acuracy>0.1", "'clean_accuracy'"),
        ("run={run} clean_accuracy=0.1", "=="),
        ("rum={run} clean_accuracy>0.1", "'run'"),
        ("run={run} clean_accuracy>0.1 lower_bound=yes", "true"),
    ],
)
def test_gate_refuses(words: str, expected: str, trained: Outcome, tmp_path: Path) -> None:
    outcome = command("gate", *words.format(run=trained.run).split(), cwd=tmp_path)
    assert outcome.status == 2
    assert expected in outcome.error


CARELESS = """
import torch
from robustml.poisoning import planned

class Careless:
    def __init__(self, count):
        self.count = count

    def plan(self, records, *, seed):
        rows = torch.randperm(len(records))[: self.count]
        return planned(self, records, records.changed(rows, y=(records.y[rows] + 1) % 10))
"""


def test_check_of_an_objective(tmp_path: Path) -> None:
    outcome = command("check", "objective=trades", "objective.attack.steps=2", cwd=tmp_path)
    assert outcome.status == 0, outcome.out
    assert "checking TRADES" in outcome.out
    assert "TRADES keeps 11 of 11 properties" in outcome.out


def test_check_of_a_built_in_attack(tmp_path: Path) -> None:
    outcome = command("check", "attack=fgsm", "threat.eps=0.1", cwd=tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    assert "checking FGSM" in outcome.out
    assert "BREAK" not in outcome.out
    assert left(tmp_path) == set()


@pytest.mark.parametrize(("share", "status"), [(1.0, 0), (2.0, 1)])
def test_check_of_a_class_of_the_current_folder(share: float, status: int, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    words = ["attack._target_=mine.Mine", f"attack.share={share}", "threat.eps=0.1"]
    outcome = command("check", *words, cwd=tmp_path, env={"PYTHONDONTWRITEBYTECODE": "1"}, apart=True)
    assert outcome.status == status, outcome.out + outcome.err
    assert ("BREAK  budget" in outcome.out) == bool(status)
    if status:
        assert "Mine breaks" in outcome.error
        assert "budget" in outcome.error


def test_check_of_a_poison_and_of_one_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(CARELESS)
    outcome = command("check", "poison=badnets", cwd=tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    assert "BadNets keeps 12 of 12 properties" in outcome.out
    outcome = command("check", "poison._target_=careless.Careless", "poison.count=10", cwd=tmp_path)
    assert outcome.status == 1
    assert "BREAK  global random state" in outcome.out
    assert "Careless breaks 2 of 9 properties" in outcome.error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("poison._target_=robustml.threats.LpBall poison.p=2 poison.eps=1", "plan"),
        ("attack=pgdd", "'pgd'"),
        ("attack._target_=mine.Missing", "mine.Missing"),
        ("attack._target_=robustml.attacks.PGD attack.stepz=3", "stepz"),
        ("attack._target_=robustml.threats.LpBall attack.p=2 attack.eps=1", "callable"),
    ],
)
def test_check_refuses(words: str, expected: str, tmp_path: Path) -> None:
    outcome = command("check", *words.split(), cwd=tmp_path)
    assert outcome.status == 2
    assert expected in outcome.error


def test_runs_of_a_folder_are_ranked(trained: Outcome, tmp_path: Path) -> None:
    outcome = command("report", "--table", trained.run, "--out", "ranked", cwd=tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    assert "L∞ eps 8/255" in outcome.out
    assert left(tmp_path / "ranked") == {"leaderboard.csv", "leaderboard.html"}
