"""`robustml evaluate model=...`: models that no run of ours trained, through the real command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from integration.files import left
from integration.forks import Outcome, command
from robustml.results import read_results

QUICK = ("evaluation=clean", "data.test_limit=90")
# A user's own module, beside which the command is run; class and function return the logits in a dict and a tuple.
MINE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.body = nn.Linear(64, classes)

    def forward(self, x):
        return {"features": x, "logits": self.body(x.flatten(1))}

def ink(x):
    return x.mean(dim=(1, 2, 3))[:, None] * torch.arange(10.0), x

three = 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a user's module and its weights, which always say 4."""
    (tmp_path / "my_nets.py").write_text(MINE)
    weights = {"body.weight": torch.zeros(10, 64), "body.bias": torch.eye(10)[4]}
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "net.pth")
    return tmp_path


def test_an_option_with_a_checkpoint_repeats_the_runs_figures(trained: Outcome, tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.pt"
    torch.save({"net": load_file(trained.run / "model.safetensors")}, checkpoint)
    words = ("model=digits_cnn", f"checkpoint={checkpoint}", "data.test_limit=90", "threat.eps=8/255")
    attack = ("attack=fgsm", "evaluation.batch_size=25")
    outcome = command("evaluate", *words, *attack, cwd=tmp_path)
    assert outcome.err == ""
    assert outcome.run.parent == tmp_path / "outputs" / "evaluate"
    assert {"config.yaml", "report.html", "results.json"} <= left(outcome.run)
    results, before = read_results(outcome.run), read_results(trained.run)
    assert results.command == "evaluate"
    assert results.clean_accuracy == before.clean_accuracy
    assert results.attacks["fgsm"].robust_accuracy == before.attacks["fgsm"].robust_accuracy
    assert results.data.fingerprint is not None
    assert results.model.name == "DigitsCNN"
    config = yaml.safe_load((outcome.run / "config.yaml").read_text())
    assert config["checkpoint"] == str(checkpoint)


def test_a_class_of_the_users(mine: Path) -> None:
    words = ("model=my_nets.Net", "checkpoint=net.pth", "adapter.logits_key=logits")
    results = read_results(command("evaluate", *words, *QUICK, cwd=mine).run)
    fours = next(row for row in results.per_class if row.label == 4)
    assert results.clean_accuracy.value == pytest.approx(fours.n / 90)
    assert fours.clean_accuracy.value == 1
    assert results.model.name == "Net"
    assert results.model.parameters == 650


def test_a_function_of_the_users(mine: Path) -> None:
    words = ("model=callable", "model.path=my_nets.ink", "adapter.logits_key=0")
    outcome = command("evaluate", *words, *QUICK, cwd=mine)
    results = read_results(outcome.run)
    assert "evaluated as it is made" in outcome.out
    assert results.model.name == "ink"
    nines = next(row for row in results.per_class if row.label == 9)
    assert nines.clean_accuracy.value == 1, "any ink at all makes it say 9"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "model=wide_resnet"),
        ("checkpoint=net.pth", "model=wide_resnet"),
        ("model=digits_cnn checkpoint=none.pt", "checkpoint must be a file that is there"),
        ("model=digits_cnn checkpoint=net.pth", "is missing (and"),
        ("model=my_nets.Missing", "my_nets.Missing"),
        ("model=my_nets.Net checkpoint=net.pth", "adapter.logits_key"),
        ("model=my_nets.Net adapter.logits_key=scores", "features, logits"),
        ("model=my_nets.Net +model.classes=5 adapter.logits_key=logits", "5 classes"),
        ("model=my_nets.Net +model.depth=5", "depth"),
        ("model=callable model.path=my_nets.three", "int"),
        ("model=callable model.path=my_nets.ink checkpoint=net.pth", "torch.nn.Module"),
        ("model=callable", "model.path"),
        ("model=custom", "model._target_"),
        ("model=preact_resnet checkpoint=net.pth", "'preact_resnet18'"),
        ("model=resnet18 chekpoint=net.pth", "'checkpoint'"),
    ],
)
def test_what_is_refused(words: str, expected: str, mine: Path) -> None:
    outcome = command("evaluate", *words.split(), *(QUICK if words else ()), cwd=mine)
    assert outcome.status == 2, outcome.out
    assert expected in outcome.error
    assert not (mine / "outputs").exists()
