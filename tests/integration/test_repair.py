"""`robustml repair`: the backdoor's success falls, the figures say so of model and twin, and the result is a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import robustml
from integration.files import left
from integration.forks import Outcome, command
from robustml.results import read_results

TRAINING = ("experiment=digits_standard", "evaluation=clean", "trainer.enable_progress_bar=false")
FIGURES = {"clean_accuracy", "attack_success_rate", "recovery_accuracy", "robust_accuracy"}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("poisoned")
    outcome = command("train", *TRAINING, "poison=badnets", cwd=folder)
    assert outcome.status == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def repaired(poisoned: Outcome) -> Outcome:
    """Also trains the twin."""
    outcome = command("repair", f"run={poisoned.run}", "method=fine_pruning", cwd=folder_of(poisoned))
    assert outcome.status == 0, outcome.err
    return outcome


def folder_of(outcome: Outcome) -> Path:
    return outcome.run.parents[2]


def repair_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text())["repair"]
    return found


def test_the_backdoor_is_gone_and_the_figures_say_so(repaired: Outcome, poisoned: Outcome) -> None:
    assert repaired.run.parent == poisoned.run / "repairs"
    files = {"config.yaml", "model.safetensors", "records.safetensors", "report.html", "results.json"}
    assert left(repaired.run) == files
    block = repair_of(repaired.run)
    for which in ("before", "after", "twin", "twin_after", "fine_tuning"):
        assert set(block[which]) == FIGURES
    assert block["before"]["attack_success_rate"]["value"] > 0.9
    assert block["after"]["attack_success_rate"]["value"] < 0.2
    assert block["after"]["clean_accuracy"]["value"] > block["before"]["clean_accuracy"]["value"] - 0.06
    assert block["twin"]["attack_success_rate"]["value"] < 0.1
    assert block["reactivated_attack_success_rate"]["value"] is not None
    assert (block["method"], block["clean_images"], block["reactivation_records"]) == ("fine_pruning", 180, 10)
    assert block["seconds"] > 0
    assert "called back by 10 records" in (repaired.run / "report.html").read_text()


def test_the_repaired_model_is_a_run_like_any_other(repaired: Outcome, poisoned: Outcome) -> None:
    folder = folder_of(poisoned)
    model = robustml.load_model(repaired.run)
    assert not torch.equal(*(next(each.parameters()) for each in (model, robustml.load_model(poisoned.run))))
    block = repair_of(repaired.run)
    outcome = command("evaluate", f"run={repaired.run}", "evaluation=clean", cwd=folder)
    assert outcome.status == 0, outcome.err
    results = read_results(outcome.run)
    assert results.clean_accuracy.value == block["after"]["clean_accuracy"]["value"]
    assert results.backdoor is not None, "whose repaired model it is is not forgotten"
    assert results.backdoor.attack_success_rate.value == block["after"]["attack_success_rate"]["value"]
    again = command("repair", f"run={repaired.run}", "images=40", "method.epochs=1", cwd=folder)
    assert again.status == 0, again.err
    assert repair_of(again.run)["clean_images"] == 40
    assert repair_of(again.run)["after"]["clean_accuracy"]["n"] == 320, "what the repair got is not measured on"
    card = command("card", str(repaired.run), cwd=folder)
    assert card.status == 0, card.err


def test_a_trojaned_model_is_repaired_and_loaded(poisoned: Outcome, tmp_path: Path) -> None:
    run = shutil.copytree(poisoned.run, tmp_path / "run")
    trojan = command("trojan", f"run={run}", "steps=300", cwd=tmp_path)
    assert trojan.status == 0, trojan.err
    outcome = command("repair", f"run={trojan.run}", "method.epochs=1", "twin=false", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    block = repair_of(outcome.run)
    assert block["before"]["attack_success_rate"]["n"] == 180 * 9, "every command, images of other classes"
    judged = command("evaluate", f"run={outcome.run}", "evaluation=clean", cwd=tmp_path)
    assert judged.status == 0, judged.err
    after = read_results(judged.run).backdoor
    assert after is not None
    assert after.attack_success_rate.value == block["after"]["attack_success_rate"]["value"]


def test_what_a_repair_costs_under_attack_stands_beside_it(tmp_path: Path) -> None:
    training = ("experiment=digits_pgd", "trainer.max_epochs=2", "evaluation.limit=100", "poison=badnets")
    trained = command("train", *training, cwd=tmp_path)
    assert trained.status == 0, trained.err
    outcome = command("repair", f"run={trained.run}", "twin=false", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    block = repair_of(outcome.run)
    before, after = (block[which]["robust_accuracy"] for which in ("before", "after"))
    assert before["n"] == after["n"] == 200
    again = command("evaluate", f"run={outcome.run}", "attack=pgd", "attack.steps=10", cwd=tmp_path)
    judged = read_results(again.run).worst_case
    assert judged is not None
    assert abs(judged.robust_accuracy.value - after["value"]) < 0.08, "the evaluator's own figure, of all images"
    assert ("cost accuracy under attack" in outcome.out) == (after["value"] < before["value"] - 0.05)
    page = (outcome.run / "report.html").read_text()
    assert "under PGD" in page
    assert "obody attacked: this" not in page
    assert "It was not attacked" not in page


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "repair needs a run directory"),
        ("run=none", "there is no run directory none"),
        ("run={run} method=prune", "fine_pruning"),
        ("run={run} method=fine_pruning method.layer=nowhere", "layer='nowhere'"),
        ("run={run} images=0", "images must be at least 1"),
        ("run={run} images=181", "from 1 to 180"),
        ("run={run} clean=val data.val_size=0", "no validation part"),
        ("run={run} method.epochs=-1", "epochs"),
    ],
)
def test_wrong_requests(words: str, expected: str, poisoned: Outcome, repaired: Outcome) -> None:
    before = left(poisoned.run)
    outcome = command("repair", *words.format(run=poisoned.run).split(), "twin=false", cwd=folder_of(poisoned))
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected in outcome.error
    assert left(poisoned.run) == before
