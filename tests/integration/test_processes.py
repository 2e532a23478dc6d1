"""Two processes: every sample once, and the figures of one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import robustml
from integration.files import left, untimed_metrics
from integration.forks import Outcome, call, command, finish, start
from integration.test_evaluate import figures
from integration.test_train import FILES
from robustml.results import read_results
from robustml.workflows.settings.building import build

# 91 images in batches of 20: one process gets a batch more, and the last batch is a small one.
DIGITS = (
    "experiment=digits_pgd",
    "trainer.max_epochs=4",
    "trainer.enable_progress_bar=false",
    "attack.steps=2",
    "validation.attack.steps=1",
    "data.eval_batch_size=50",
    "data.test_limit=91",
    "evaluation.batch_size=20",
    "evaluation.attacks.pgd.steps=3",
    "evaluation.attacks.mifgsm.steps=2",
    "evaluation.curve.relative=[0,1]",
)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Trained in two processes, the second of which Lightning starts itself."""
    folder = tmp_path_factory.mktemp("pair")
    return command("train", *DIGITS, "trainer=ddp_cpu", cwd=folder, env=ONE_THREAD, apart=True)


def test_two_processes_leave_one_run_and_speak_once(pair: Outcome) -> None:
    assert pair.err == ""
    assert left(pair.run) == FILES
    outputs = pair.run.parents[1]
    assert [path.name for path in outputs.iterdir()] == ["digits_pgd"]
    assert [path.name for path in outputs.parent.iterdir()] == ["outputs"]
    lines = pair.out.splitlines()
    for start_of_line in ("data: ", "threat: ", "model: ", "epoch 1/", "epoch 4/", "evaluating ", "report: ", "run: "):
        assert sum(line.startswith(start_of_line) for line in lines) == 1, pair.out
    assert len(untimed_metrics(pair.run)) == 4


def test_two_processes_count_every_image_once(pair: Outcome, tmp_path: Path) -> None:
    results = read_results(pair.run / "results.json")
    assert results.data.test == 91
    assert results.clean_accuracy.n == 91
    assert {attack.robust_accuracy.n for attack in results.attacks.values()} == {91}
    assert sum(row.n for row in results.per_class) == 91
    alone = command("evaluate", f"run={pair.run}", cwd=tmp_path)
    assert figures(read_results(alone.run / "results.json")) == figures(results)


def test_two_processes_learn_what_one_does(pair: Outcome, tmp_path: Path) -> None:
    alone = command("train", *DIGITS, cwd=tmp_path).run
    first, second = (read_results(run / "results.json") for run in (pair.run, alone))
    assert first.data == second.data
    assert second.clean_accuracy.value > 0.8
    assert first.clean_accuracy.value == pytest.approx(second.clean_accuracy.value, abs=0.08)
    assert first.worst_case.robust_accuracy.value == pytest.approx(second.worst_case.robust_accuracy.value, abs=0.15)
    steps = [[row["step"] for row in untimed_metrics(run)] for run in (pair.run, alone)]
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_a_process_with_fewer_batches_to_validate_is_not_waited_for(tmp_path: Path) -> None:
    """3 batches for 2 processes, and a buffer, the counter of AWP, that DDP would share with every one of them."""
    quick = tuple(word for word in DIGITS if not word.startswith(("evaluation", "data.eval", "trainer.max_epochs")))
    words = ("objective=awp", "data.eval_batch_size=70", "evaluation=clean", "trainer.max_epochs=1")
    outcome = command("train", *quick, *words, "trainer=ddp_cpu", cwd=tmp_path, env=ONE_THREAD, apart=True)
    assert outcome.err == ""
    assert len(untimed_metrics(outcome.run)) == 1


@pytest.mark.slow
def test_two_processes_resume(pair: Outcome, tmp_path: Path) -> None:
    run = shutil.copytree(pair.run, tmp_path / "run")
    (run / "results.json").unlink()
    (run / "model.safetensors").unlink()
    assert finish(start("train", "resume=run", cwd=tmp_path, env=ONE_THREAD)).run == run
    assert figures(read_results(run / "results.json")) == figures(read_results(pair.run / "results.json"))


@pytest.mark.slow
def test_two_processes_refuse_in_one_line(tmp_path: Path) -> None:
    outcome = finish(start("train", *DIGITS, "trainer=ddp_cpu", "threat.eps=8", cwd=tmp_path, env=ONE_THREAD))
    assert outcome.status == 2
    assert "8/255" in outcome.error
    assert list(tmp_path.iterdir()) == []


def _evaluate(run: str, folder: str, rank: int, world_size: int) -> None:
    """What `robustml.evaluate` finds in one process of a group."""
    if world_size > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
        )
    settings = yaml.safe_load(Path(run, "config.yaml").read_text())
    attacks = {name: build(attack) for name, attack in settings["evaluation"]["attacks"].items()}
    loader = build(settings["data"]).loader("test", batch_size=20)
    results = robustml.evaluate(robustml.load_model(run), loader, attacks, build(settings["threat"]))
    arrays = {"y": results.verdicts.y, "prediction": results.verdicts.prediction}
    for name, verdicts in results.verdicts.attacks.items():
        arrays |= {f"{name} robust": verdicts.robust, f"{name} distance": verdicts.distance}
    np.savez(f"{folder}/{world_size}-{rank}.npz", **arrays)
    if world_size > 1:
        torch.distributed.destroy_process_group()


def _both(run: str, folder: str) -> None:
    """Two processes: this one is rank 0, and forks rank 1."""
    child = os.fork()
    try:
        _evaluate(run, folder, 1 if child == 0 else 0, 2)
    except BaseException:
        if child == 0:
            os._exit(1)
        raise
    if child == 0:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def test_evaluate_in_a_process_group_is_bit_equal_to_one_process(trained: Outcome, tmp_path: Path) -> None:
    places: Sequence[tuple[object, ...]] = [(_evaluate, str(trained.run), str(tmp_path), 0, 1)]
    places = [*places, (_both, str(trained.run), str(tmp_path))]
    for function, *arguments in places:
        outcome = call(function, *arguments, cwd=tmp_path)
        assert outcome.status == 0, outcome.err
    alone = np.load(tmp_path / "1-0.npz")
    assert len(alone["y"]) == 90
    for rank in (0, 1):
        together = np.load(tmp_path / f"2-{rank}.npz")
        assert set(together) == set(alone)
        for name in alone:
            assert np.array_equal(together[name], alone[name]), name
