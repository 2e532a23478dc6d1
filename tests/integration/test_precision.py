"""Training in other number formats, and what Lightning or an optimizer refuses, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from integration.conftest import TINY
from integration.forks import command
from integration.test_evaluate import figures
from robustml.results import read_results

FEW = (*TINY, "trainer.max_epochs=1", "data.test_limit=40", "model=mlp", "model.hidden=[16]")
FINDER = "pytorch_lightning.callbacks.LearningRateFinder"
MONITOR = "pytorch_lightning.callbacks.LearningRateMonitor"


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_a_run_in_another_precision_is_evaluated_as_it_is_loaded(precision: str, tmp_path: Path) -> None:
    words = ("experiment=digits_pgd", *FEW, "optimizer=sgd", "optimizer.lr=0.01", f"trainer.precision={precision}")
    run = command("train", *words, cwd=tmp_path).run
    results = read_results(run)
    assert {value.dtype for value in load_file(run / "model.safetensors").values()} == {torch.float32}
    again = command("evaluate", f"run={run}", cwd=tmp_path)
    assert figures(read_results(again.run)) == figures(results)
    assert results.selection is not None


REFUSED = {
    "a monitor without a logger": ((f"+callbacks.rate._target_={MONITOR}",), "no logger"),
    "a finder": ((f"+callbacks.rate._target_={FINDER}",), "LearningRateFinder changes what config.yaml says"),
    "a schedule without an end": (("trainer.max_epochs=-1", "scheduler=cosine"), "set trainer.max_epochs"),
    "a negative rate": (("optimizer.lr=-1",), "Invalid learning rate"),
    "a rate that is no number": (("optimizer.lr=nan",), "optimizer.lr must be a number"),
    "a last batch of one": (("data.batch_size=191", "model=preact_resnet18"), "data.drop_last=true"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    few = [word for word in FEW if not (word.startswith("model") and "model=preact_resnet18" in words)]
    outcome = command("train", "experiment=digits_pgd", *few, *words, cwd=tmp_path)
    assert outcome.status == 2
    assert said in outcome.error
    assert not list(tmp_path.glob("outputs/*/*/config.yaml"))


def test_keys_of_a_dict_may_be_numbers(tmp_path: Path) -> None:
    scheduler = "pytorch_lightning.callbacks.GradientAccumulationScheduler"
    words = f"+callbacks.accumulate={{_target_: {scheduler}, scheduling: {{0: 1, 1: 3}}}}"
    run = command("train", "experiment=digits_pgd", *FEW, "trainer.max_epochs=2", words, cwd=tmp_path).run
    steps = [line.split(",")[1] for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == ["6", "8"]


def test_one_cycle_goes_on_for_longer(tmp_path: Path) -> None:
    run = command("train", "experiment=digits_pgd", *FEW, "scheduler=one_cycle", cwd=tmp_path).run
    longer = command("train", f"resume={run}", "trainer.max_epochs=3", cwd=tmp_path)
    assert "the learning rate is that of a run of the new length" in longer.out
    whole = command("train", "experiment=digits_pgd", *FEW, "scheduler=one_cycle", "trainer.max_epochs=3", cwd=tmp_path)
    rates = [
        [line.split(",")[2] for line in (path / "metrics.csv").read_text().splitlines()[1:]]
        for path in (longer.run, whole.run)
    ]
    assert rates[0][1:] == rates[1][1:]


@pytest.mark.parametrize("words", [(), ("-m",)])
def test_a_training_hands_on_the_figure_that_its_weights_were_chosen_on(words: tuple[str, ...], tmp_path: Path) -> None:
    """To the sweepers of Hydra that optimise."""
    note = "+hydra.callbacks.note._target_=integration.optimising.Note"
    command("train", "experiment=digits_pgd", *FEW, "evaluation.limit=10", note, *words, cwd=tmp_path)
    (returned,) = tmp_path.rglob("returned.json")
    selection = read_results(returned.with_name("results.json")).selection
    assert selection is not None
    assert json.loads(returned.read_text()) == selection.best.adversarial_accuracy
