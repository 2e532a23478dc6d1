"""Corruptions through the real command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

import robustml
from integration.forks import Outcome, call, command
from robustml.data import DataModule, Digits
from robustml.evaluation import corruption_accuracy
from robustml.results import read_results


def test_clean_and_corrupted_accuracy_of_a_run(run_copy: Path, tmp_path: Path) -> None:
    words = ("evaluation=corruptions", "evaluation.corruptions.severities=[1,5]", "evaluation.corruptions.limit=20")
    outcome = command("evaluate", f"run={run_copy}", *words, cwd=tmp_path)
    assert "15 corruptions at severities 1, 5, on 20 images" in outcome.out
    results = read_results(outcome.run)
    assert results.attacks == {}
    assert results.corruptions is not None
    assert len(results.corruptions.accuracy) == 15
    rates = [point.accuracy for points in results.corruptions.accuracy.values() for point in points]
    assert [rate.n for rate in rates] == [20] * 30
    assert results.corruptions.mean_accuracy == pytest.approx(sum(rate.value for rate in rates) / 30)
    assert "Common corruptions" in (outcome.run / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evaluation.corruptions.names=[snoww]", "did you mean 'snow'"),
        ("evaluation.corruptions.names=snow", "must be a list"),
        ("evaluation.corruptions.severities=[6]", "severity must be"),
        ("evaluation.corruptions.limit=0", "at least 1"),
        ("evaluation.corruptions=all", "not understood"),
    ],
)
def test_wrong_settings_are_refused(words: str, expected: str, run_copy: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", f"run={run_copy}", "evaluation=corruptions", words, cwd=tmp_path)
    assert outcome.status == 2
    assert expected in outcome.error


def _measure(run: str, out: str, rank: int, world_size: int) -> None:
    """What one process of a group finds; 50 images in batches of 20, so that the shares differ."""
    if world_size > 1:
        place = f"file://{out}/rendezvous"
        torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=world_size)
    loader = DataModule(Digits(), name="digits").loader("test", batch_size=20, limit=50)
    found = corruption_accuracy(robustml.load_model(run), loader, severities=[5], corruptions=["snow", "fog"])
    Path(out, f"{world_size}-{rank}.json").write_text(found.model_dump_json())
    if world_size > 1:
        torch.distributed.destroy_process_group()


def _both(run: str, out: str) -> None:
    """Two processes: this one is rank 0, and forks rank 1."""
    child = os.fork()
    if child == 0:
        try:
            _measure(run, out, 1, 2)
        finally:
            os._exit(0)
    _measure(run, out, 0, 2)
    os.waitpid(child, 0)
    sys.exit(0)


def test_a_process_group_finds_what_one_process_does(trained: Outcome, tmp_path: Path) -> None:
    places = (str(trained.run), str(tmp_path))
    for function, *ranks in ((_measure, 0, 1), (_both,)):
        outcome = call(function, *places, *ranks, cwd=tmp_path)
        assert outcome.status == 0, outcome.err
    alone = json.loads((tmp_path / "1-0.json").read_text())
    assert alone["accuracy"]["snow"][0]["accuracy"]["n"] == 50
    for rank in (0, 1):
        assert json.loads((tmp_path / f"2-{rank}.json").read_text()) == alone
