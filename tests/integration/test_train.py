from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

import robustml
from integration.conftest import TINY, TRAINING
from integration.files import left, sha256, untimed_metrics
from integration.forks import Outcome, command
from robustml.reporting import read_run
from robustml.results import read_results
from robustml.workflows.settings.building import build

FILES = {
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "config.yaml",
    "examples.npz",
    "metrics.csv",
    "model.safetensors",
    "records.safetensors",
    "report.html",
    "results.json",
}


def accuracy(model: torch.nn.Module, run: Path) -> float:
    """Clean accuracy on the run's own test split, counted here."""
    data = build(yaml.safe_load((run / "config.yaml").read_text())["data"])
    data.setup()
    x, y = data.test.x.float() / 255, data.test.y
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def test_the_run_directory_holds_what_is_documented(trained: Outcome) -> None:
    assert left(trained.run) == FILES
    assert trained.run.parent.name == "digits_pgd"


def test_nothing_but_the_facts_is_said(trained: Outcome) -> None:
    assert trained.err == ""
    lines = trained.out.splitlines()
    assert lines[0].startswith("train: data digits, model digits_cnn, objective adversarial, threat linf eps 0.03137")
    assert lines[1].startswith("labels: 0 19, 1 19, 2 19")
    assert lines[2].startswith("data:   digits, 192 train / 32 validation / 90 test")
    assert "eps = 0.0313725 (8/255)" in lines[3]
    assert sum(line.startswith("epoch ") for line in lines) == 3
    assert f"report: {trained.run / 'report.html'}" in lines
    assert lines[-1] == f"run: {trained.run}"


def test_results_are_valid_and_complete(trained: Outcome) -> None:
    results = read_results(trained.run / "results.json")
    assert (results.command, results.experiment, results.seed) == ("train", "digits_pgd", 0)
    assert (results.data.train, results.data.val, results.data.test) == (192, 32, 90)
    assert results.threat.norm == "inf"
    assert results.threat.eps == pytest.approx(8 / 255, abs=1e-12)
    assert list(results.attacks) == ["fgsm", "pgd", "mifgsm"]
    rates = [attack.robust_accuracy.value for attack in results.attacks.values()]
    assert results.worst_case.robust_accuracy.value <= min(rates)
    assert all(rate <= results.clean_accuracy.value for rate in rates)
    for attack in results.attacks.values():
        assert 0 < attack.max_norm <= 8 / 255 + 1e-6
        assert attack.robust_accuracy.n == 90
    assert sum(row.n for row in results.per_class) == 90
    assert results.cost.train_seconds > 0
    assert 0 < results.cost.attack_share < 1


def test_eps_is_recorded_as_a_number(trained: Outcome) -> None:
    config = yaml.safe_load((trained.run / "config.yaml").read_text())
    assert config["threat"]["eps"] == 8 / 255
    assert "threat" not in config["attack"]
    assert config["data"]["num_classes"] == 10
    assert "threat.eps=8/255" in config["overrides"]


def test_metrics_have_a_row_an_epoch(trained: Outcome) -> None:
    with (trained.run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [int(row["step"]) for row in rows] == [6, 12, 18]
    for row in rows:
        assert 0 <= float(row["val/adversarial_accuracy"]) <= float(row["val/clean_accuracy"]) <= 1
        assert float(row["train/loss"]) > 0


def test_the_best_epoch_is_the_one_on_disk(trained: Outcome) -> None:
    with (trained.run / "metrics.csv").open(newline="") as file:
        figures = [float(row["val/adversarial_accuracy"]) for row in csv.DictReader(file)]
    selection = read_results(trained.run / "results.json").selection
    assert selection.monitor == "val/adversarial_accuracy"
    best = torch.load(trained.run / "checkpoints" / "best.ckpt", weights_only=True)
    assert figures[best["epoch"]] == max(figures) == selection.best.adversarial_accuracy
    assert best["epoch"] + 1 == selection.best.epoch
    assert best["global_step"] == selection.best.step


@pytest.mark.parametrize("which", ["best", "last"])
def test_load_model(which: str, trained: Outcome) -> None:
    model = robustml.load_model(trained.run, which)
    assert not any(module.training for module in model.modules())
    checkpoint = torch.load(trained.run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, checkpoint[f"model.{name}"])
    if which == "best":
        assert accuracy(model, trained.run) == pytest.approx(
            read_results(trained.run / "results.json").clean_accuracy.value
        )


def test_the_report_is_self_contained(trained: Outcome) -> None:
    page = (trained.run / "report.html").read_text()
    assert "<script src" not in page
    assert 'href="http' not in page
    assert "digits_pgd" in page
    assert read_run(trained.run).examples is not None


def test_a_seed_gives_the_same_weights_again_and_another_does_not(tmp_path: Path) -> None:
    short = ["experiment=digits_pgd", *TRAINING, "evaluation=clean", "trainer.max_epochs=1", "model=mlp"]
    short += ["data.augment=[{_target_: robustml.data.RandomCrop, padding: 1}]", "model.dropout=0.5"]
    first, second, other = (
        command("train", *short, f"seed={seed}", f"output={name}", cwd=tmp_path).run
        for name, seed in (("first", 0), ("second", 0), ("other", 1))
    )
    assert sha256(first / "model.safetensors") == sha256(second / "model.safetensors")
    assert sha256(first / "model.safetensors") != sha256(other / "model.safetensors")
    assert untimed_metrics(first) == untimed_metrics(second) != untimed_metrics(other)


def test_two_runs_never_share_a_folder(trained: Outcome, tmp_path: Path) -> None:
    outcome = command("train", *TINY, f"hydra.run.dir={trained.run}", cwd=tmp_path)
    assert outcome.status == 2
    assert "holds a run already" in outcome.error
    assert left(trained.run) == FILES


def test_validation_can_be_left_out(tmp_path: Path) -> None:
    outcome = command("train", *TRAINING, "data.val_size=0", "evaluation=clean", "trainer.max_epochs=1", cwd=tmp_path)
    run = tmp_path / outcome.run
    assert left(run) == FILES - {"checkpoints/best.ckpt", "examples.npz"}
    results = json.loads((run / "results.json").read_text())
    assert results["selection"] is None
    assert results["data"]["val"] == 0
