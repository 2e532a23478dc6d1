from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from integration.conftest import TRAINING
from integration.files import left, sha256
from integration.forks import command
from robustml.results import read_results


def test_eps_of_one_run(run_copy: Path, tmp_path: Path) -> None:
    outcome = command("sweep", "eps", f"run={run_copy}", "threat.eps=0,8/255,96/255", cwd=tmp_path, drawn=True)
    folder = outcome.run
    assert folder.parent == run_copy / "sweeps"
    assert {"sweep.csv", "sweep.html", "0/results.json", "1/results.json", "2/results.json"} <= left(folder)
    table = pd.read_csv(folder / "sweep.csv")
    assert set(table["source"]) == {"attack", "worst_case"}
    assert set(table["attack"]) == {"fgsm", "pgd", "mifgsm", "worst_case"}
    assert len(table) == 12
    assert sorted(set(table["test_eps"])) == pytest.approx([0, 8 / 255, 96 / 255])
    worst = table[table["source"] == "worst_case"].set_index("run")["robust_accuracy"]
    before = read_results(run_copy / "results.json")
    assert worst[0] == pytest.approx(before.clean_accuracy.value)
    # The run's own worst case also counts what the searches of its curve found; a sweep draws no curve for each eps.
    assert before.worst_case.robust_accuracy.value <= worst[1] + 1e-9
    alone = table[(table["source"] == "attack") & (table["run"] == 1)].set_index("attack")["robust_accuracy"]
    for name, attack in before.attacks.items():
        assert alone[name] == pytest.approx(attack.robust_accuracy.value), name
        assert worst[1] <= alone[name]
    assert worst[2] < worst[1] - 0.1
    assert "<svg" in (folder / "sweep.html").read_text() or "data:image" in (folder / "sweep.html").read_text()


def test_eps_has_values_of_its_own(run_copy: Path, tmp_path: Path) -> None:
    outcome = command("sweep", "eps", f"run={run_copy}", "attack=fgsm", "evaluation.limit=10", cwd=tmp_path)
    table = pd.read_csv(outcome.run / "sweep.csv")
    multiples = sorted(set(table["test_eps"] / (8 / 255)))
    assert multiples == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5], rel=1e-6)
    assert set(table["attack"]) == {"fgsm", "worst_case"}


def test_train_eps_against_test_eps(tmp_path: Path) -> None:
    outcome = command(
        "sweep", "train_eps", "experiment=digits_pgd", *TRAINING, "evaluation.attacks.pgd.steps=2",
        "evaluation.attacks.mifgsm.steps=2", "trainer.max_epochs=1", "data.test_limit=30", "threat.eps=0,8/255",
        cwd=tmp_path, drawn=True,
    )  # fmt: skip
    assert outcome.run.parent == tmp_path / "outputs" / "multirun"
    table = pd.read_csv(outcome.run / "sweep.csv")
    curve = table[table["source"] == "curve"]
    assert {(round(row.train_eps, 6), round(row.test_eps, 6)) for row in curve.itertuples()} == {
        (train, test) for train in (0, round(8 / 255, 6)) for test in (0, round(8 / 255, 6))
    }
    assert len(curve) == 4
    page = (outcome.run / "sweep.html").read_text()
    assert "Training budget against test budget" in page
    assert "2 runs finished" in page


def test_a_multirun_of_seeds(tmp_path: Path) -> None:
    words = ["debug=fast", "evaluation=clean"]
    outcome = command("train", "-m", "seed=0,1", *words, cwd=tmp_path)
    assert outcome.err == ""
    folder = outcome.run
    for seed in (0, 1):
        assert read_results(folder / str(seed) / "results.json").seed == seed
        assert f"job {seed + 1} of 2: seed={seed}" in outcome.out.splitlines()
    # One table for all of them, not a report each.
    assert outcome.out.count("report:") == outcome.out.count("run: ") == 1
    assert "mean ± standard deviation (n - 1) over seeds" in outcome.out
    assert sha256(folder / "0" / "model.safetensors") != sha256(folder / "1" / "model.safetensors")
    # The second job of a process trains what it would have trained alone.
    alone = command("train", "seed=1", *words, "output=alone", cwd=tmp_path).run
    assert sha256(folder / "1" / "model.safetensors") == sha256(alone / "model.safetensors")
    assert {"sweep.csv", "sweep.html", "report.html"} <= left(folder)


def test_a_job_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    words = ["debug=fast", "evaluation=clean", "optimizer=sgd"]
    outcome = command("train", "-m", *words, "optimizer.lr=0.01,1e30,0.02", cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1].startswith("error: the loss became")
    assert "optimizer.lr=1e+30" in outcome.err
    assert "Traceback" not in outcome.err
    folder = Path(outcome.out.splitlines()[-1].removeprefix("run: "))
    table = pd.read_csv(folder / "sweep.csv")
    assert set(table["run"]) == {0, 2}
    assert "failed: 1: " in outcome.out
    assert "2 of 3 runs finished" in (folder / "sweep.html").read_text()


def test_a_job_that_is_refused_does_not_take_the_others_along(run_copy: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", "-m", f"run={run_copy}", "threat.eps=0.01,8", "evaluation=clean", cwd=tmp_path)
    assert outcome.status == 2
    assert "8/255" in outcome.err.splitlines()[-1]
    (folder,) = (run_copy / "sweeps").iterdir()
    assert {"0/results.json", "sweep.csv"} <= left(folder)


def test_every_defense_on_every_backdoor(tmp_path: Path) -> None:
    words = ("poisons=[badnets]", "detectors=[spectral,order]", "repairs=[fine_tuning]", "seeds=[0]", "hardened=false")
    outcome = command("sweep", "defenses", *words, "out=table", cwd=tmp_path, drawn=True)
    assert outcome.status == 0, outcome.err
    table = pd.read_csv(tmp_path / "table" / "defenses.csv")
    assert table["defense"].tolist() == ["spectral", "order", "fine_tuning"]
    assert table["attack_success_rate"].min() > 0.9
    spectral, repaired = table.iloc[0], table.iloc[2]
    assert spectral["auroc"] > 0.8
    assert repaired["attack_success_rate_after"] < 0.3
    assert 0 <= repaired["twin_reactivated"] <= 1
    page = (tmp_path / "table" / "defenses.html").read_text()
    assert "What finds what" in page
    assert "data: digits" in page or "digits" in page
    again = command("sweep", "defenses", *words, "out=table", cwd=tmp_path, drawn=True)
    assert "done before" in again.out or "models:" in again.out
    wrong = command("sweep", "defenses", "poisons=[bad]", cwd=tmp_path)
    assert (wrong.status, "there is no 'bad'" in wrong.error) == (2, True)
