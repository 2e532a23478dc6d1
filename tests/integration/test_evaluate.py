from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from integration.files import left
from integration.forks import Outcome, command
from robustml.results import Results, read_results


def figures(results: Results) -> dict[str, object]:
    """All that an evaluation measured, without the seconds it took."""
    return {
        "clean": results.clean_accuracy,
        "attacks": {name: (a.robust_accuracy, a.max_norm, a.params) for name, a in results.attacks.items()},
        "worst case": results.worst_case,
        "classes": results.per_class,
        "curve": results.curve,
        "flags": results.flags,
        "data": results.data,
        "model": results.model,
        "threat": results.threat,
    }


def test_it_repeats_the_figures_of_the_training_run(run_copy: Path, tmp_path: Path) -> None:
    before = left(run_copy)
    outcome = command("evaluate", f"run={run_copy}", cwd=tmp_path)
    assert outcome.err == ""
    assert outcome.run.parent == run_copy / "evaluations"
    assert left(outcome.run) == {"config.yaml", "examples.npz", "report.html", "results.json", "verdicts.jsonl"}
    assert {name for name in left(run_copy) if not name.startswith("evaluations/")} == before
    results = read_results(outcome.run / "results.json")
    assert results.command == "evaluate"
    assert figures(results) == figures(read_results(run_copy / "results.json"))


def test_it_works_from_elsewhere_by_a_relative_path(run_copy: Path) -> None:
    outcome = command("evaluate", "run=run", "evaluation=clean", cwd=run_copy.parent)
    assert outcome.run.is_relative_to(run_copy)
    results = read_results(outcome.run / "results.json")
    assert results.attacks == {}
    assert results.worst_case.robust_accuracy == results.clean_accuracy


def test_the_last_epoch(run_copy: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", f"run={run_copy}", "which=last", "evaluation=clean", cwd=tmp_path)
    results = read_results(outcome.run / "results.json")
    assert results.model.sha256 != read_results(run_copy / "results.json").model.sha256


def test_another_eps(run_copy: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", f"run={run_copy}", "threat.eps=64/255", cwd=tmp_path)
    assert "eps = 0.25098 (64/255)" in outcome.out
    results, before = (read_results(run / "results.json") for run in (outcome.run, run_copy))
    assert results.threat.eps == pytest.approx(64 / 255)
    assert results.clean_accuracy == before.clean_accuracy
    assert results.worst_case.robust_accuracy.value < before.worst_case.robust_accuracy.value
    assert 8 / 255 < results.attacks["pgd"].max_norm <= 64 / 255 + 1e-6


def test_an_attack_of_torchattacks_in_another_norm(run_copy: Path, tmp_path: Path) -> None:
    words = "attack=torchattacks attack.name=CW attack.params.c=1 threat=l2 threat.eps=1 attack.params.steps=5"
    outcome = command("evaluate", f"run={run_copy}", *words.split(), "evaluation.limit=20", cwd=tmp_path)
    results = read_results(outcome.run / "results.json")
    assert (results.threat.norm, results.threat.eps) == ("2", 1.0)
    assert list(results.attacks) == ["cw"]
    assert results.attacks["cw"].params["params"] == {"c": 1, "steps": 5}
    assert results.attacks["cw"].robust_accuracy.n == 20
    assert 0 <= results.attacks["cw"].max_norm <= 1 + 1e-5
    assert results.curve is None


def test_one_attack_in_place_of_the_runs(run_copy: Path, tmp_path: Path) -> None:
    words = "attack=pgd attack.steps=2 attack.restarts=2"
    outcome = command("evaluate", f"run={run_copy}", *words.split(), cwd=tmp_path)
    results = read_results(outcome.run / "results.json")
    assert list(results.attacks) == ["pgd"]
    assert (results.attacks["pgd"].params["steps"], results.attacks["pgd"].params["restarts"]) == (2, 2)


def test_another_evaluation_replaces_the_runs(run_copy: Path, tmp_path: Path) -> None:
    words = "evaluation=strong evaluation.limit=10 evaluation.attacks.pgd.steps=2 evaluation.attacks.pgd_margin.steps=2"
    outcome = command("evaluate", f"run={run_copy}", *words.split(), cwd=tmp_path)
    results = read_results(outcome.run / "results.json")
    assert list(results.attacks) == ["fgsm", "pgd", "pgd_margin"]
    config = yaml.safe_load((outcome.run / "config.yaml").read_text())
    assert config["evaluation"]["attacks"]["pgd"]["restarts"] == 10


def test_a_multirun_is_collected_beside_the_run(run_copy: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", "-m", f"run={run_copy}", "evaluation=clean", "threat.eps=1/255,2/255", cwd=tmp_path)
    assert outcome.run.parent == run_copy / "sweeps"
    assert {"0/results.json", "1/results.json", "sweep.csv", "sweep.html", "report.html"} <= left(outcome.run)


def test_report_of_one_run_and_of_several(run_copy: Path, trained: Outcome, tmp_path: Path) -> None:
    (run_copy / "report.html").unlink()
    outcome = command("report", run_copy, cwd=tmp_path)
    assert outcome.status == 0
    assert (run_copy / "report.html").is_file()
    outcome = command("report", run_copy, trained.run, "--out", "both.html", "--title", "Two runs", cwd=tmp_path)
    assert outcome.status == 0
    assert "Two runs" in (tmp_path / "both.html").read_text()
