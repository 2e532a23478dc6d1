"""SIGTERM and SIGINT in the middle of a verb: its status, its one line, and a run that goes on as if none had come."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path

import pytest

from integration.conftest import TINY
from integration.files import sha256
from integration.forks import Outcome, command


def _as_in_a_terminal() -> None:
    """Whoever runs the tests in the background of a shell has SIGINT ignored, and a command leaves it so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def in_the_second_epoch(number: int) -> None:
    _as_in_a_terminal()
    from robustml.training import RobustClassifier

    step = RobustClassifier.training_step

    def training_step(self: RobustClassifier, batch: object, batch_idx: int) -> object:
        if (self.current_epoch, batch_idx) == (1, 2):
            os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    RobustClassifier.training_step = training_step  # type: ignore[method-assign,assignment]


def in_the_second_attack(number: int) -> None:
    _as_in_a_terminal()
    from robustml.evaluation import evaluator

    attack, calls = evaluator.attack_batch, iter(range(100))

    def attacked(*arguments: object, **named: object) -> object:
        if next(calls) == 1:
            os.kill(os.getpid(), number)
        return attack(*arguments, **named)  # type: ignore[arg-type]

    evaluator.attack_batch = attacked  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow),
    ],
)
def test_a_training_says_how_to_go_on_and_does(
    number: int, status: int, word: str, trained: Outcome, tmp_path: Path
) -> None:
    stop = partial(in_the_second_epoch, number)
    outcome = command("train", "experiment=digits_pgd", *TINY, "threat.eps=8/255", cwd=tmp_path, before=stop)
    assert outcome.status == status
    assert word in outcome.error
    said = re.search(r"go on with: robustml train (resume=\S+)$", outcome.error)
    assert said is not None
    resumed = command("train", said[1], cwd=tmp_path)
    assert sha256(resumed.run / "model.safetensors") == sha256(trained.run / "model.safetensors")


def test_a_multirun_ends_with_its_job(tmp_path: Path) -> None:
    words = ("-m", "experiment=digits_pgd", *TINY, "seed=0,1")
    outcome = command("train", *words, cwd=tmp_path, before=partial(in_the_second_epoch, signal.SIGTERM))
    assert outcome.status == 143
    assert re.search(r"resume=\S+/0; this was job 0, and those after it were not begun$", outcome.error)
    (sweep,) = (tmp_path / "outputs" / "multirun").iterdir()
    assert not (sweep / "1").exists()


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        pytest.param(signal.SIGTERM, 143, "stopped by SIGTERM", marks=pytest.mark.slow),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_an_evaluation_does_the_same(number: int, status: int, word: str, run_copy: Path, tmp_path: Path) -> None:
    before = partial(in_the_second_attack, number)
    outcome = command("evaluate", f"run={run_copy}", "evaluation.batch_size=50", cwd=tmp_path, before=before)
    assert outcome.status == status
    assert word in outcome.error
    said = re.search(r"go on with: robustml evaluate (resume=\S+)$", outcome.error)
    assert said is not None
    assert command("evaluate", said[1], cwd=tmp_path).status == 0
