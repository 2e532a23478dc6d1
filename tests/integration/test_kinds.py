"""Data that are no images through the real commands: a table, waveforms, texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from corpora import mail_round, write_mails

import robustml
from integration.forks import command
from robustml.data import Texts
from robustml.reporting import Run, read_run
from robustml.results import read_results

# The attacks that go with anything, few steps of each; no curve, which is PGD again.
SHORT = (
    "+attack@evaluation.attacks.apgd=apgd",
    "+attack@evaluation.attacks.square=square",
    "evaluation.attacks.apgd.steps=10",
    "evaluation.attacks.square.queries=30",
    "evaluation.attacks.pgd.steps=10",
    "evaluation.attacks.mifgsm.steps=5",
    "evaluation.attacks.mifgsm.relative_step_size=0.5",
    "evaluation.curve=null",
    "attack.steps=3",
    "validation.attack.steps=3",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
)
# Half of the waveforms: 73% of the test ones are then right, and 60% under attack.
QUICK_TONES = ("trainer.max_epochs=8", "data.train_limit=540", "data.test_limit=30")
ATTACKS = ["fgsm", "pgd", "mifgsm", "apgd", "square"]


def trained(*words: str, folder: Path) -> Run:
    """A run of `robustml train` under all attacks, whose report speaks of examples and draws none."""
    outcome = command("train", *words, *SHORT, cwd=folder, drawn=True)
    assert outcome.err == ""
    run = read_run(folder / outcome.run)
    assert list(run.results.attacks) == ATTACKS
    assert run.results.flags == []
    for attack in run.results.attacks.values():
        assert attack.max_norm <= run.results.threat.eps + 1e-6
        assert attack.robust_accuracy.value <= run.results.clean_accuracy.value
    page = (run.path / "report.html").read_text()
    assert "Examples under attack" in page
    assert "clean test examples" in page
    assert "<image" not in page
    return run


@pytest.mark.parametrize(
    ("words", "shape", "clean", "robust"),
    [
        (["experiment=breast_cancer_pgd", "trainer.max_epochs=10"], (30,), 0.85, 0.75),
        (["experiment=tones_pgd", *QUICK_TONES], (1, 1024), 0.6, 0.4),
    ],
    ids=["table", "waveforms"],
)
def test_experiments(words: list[str], shape: tuple[int, ...], clean: float, robust: float, tmp_path: Path) -> None:
    run = trained(*words, folder=tmp_path)
    results = run.results
    assert results.clean_accuracy.value > clean
    assert results.clean_accuracy.value > results.worst_case.robust_accuracy.value > robust
    assert run.examples is not None
    assert run.examples.x.shape[1:] == shape
    again = command("evaluate", f"run={run.path}", "attack=fgsm", "device=cpu", cwd=tmp_path)
    evaluated = read_results(again.run / "results.json")
    assert evaluated.clean_accuracy == results.clean_accuracy
    assert evaluated.attacks["fgsm"].robust_accuracy == results.attacks["fgsm"].robust_accuracy


def test_texts_under_attack_are_what_the_closed_form_says(tmp_path: Path) -> None:
    path = write_mails(tmp_path / "mails.csv", [mail for week in range(4) for mail in mail_round(week)])
    words = ("data=text", f"data.source.train={path}", "data.source.features=300", "model=mlp", "model.hidden=[]")
    run = trained(*words, "objective=standard", "threat.eps=0.02", "optimizer.lr=0.01", folder=tmp_path)
    test = Texts(path, features=300).load("test")
    linear = robustml.load_model(run.path).layers[0]
    # a linear classifier of two classes: each value moves against its weight, by eps or to the end of [0, 1]
    with torch.no_grad():
        slope = (linear.weight[1 - test.y] - linear.weight[test.y]).sign()
        worst = linear((test.x + 0.02 * slope).clamp(0, 1))
        robust = float((worst.argmax(1) == test.y).double().mean())
        assert run.results.clean_accuracy.value == float((linear(test.x).argmax(1) == test.y).double().mean()) > 0.8
    assert 0.5 < robust < run.results.clean_accuracy.value
    assert {name: run.results.attacks[name].robust_accuracy.value for name in ATTACKS[:4]} == dict.fromkeys(
        ATTACKS[:4], robust
    )
