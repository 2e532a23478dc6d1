"""The figures that the README promises for real MNIST: `pytest -m "slow and data"`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from integration.forks import command
from robustml.reporting import Results, read_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.timeout(900),
    pytest.mark.skipif("ROBUSTML_DATA" not in os.environ, reason="ROBUSTML_DATA names no folder with MNIST"),
]

PGD_50 = ["evaluation.limit=2000", "evaluation.curve=null", "trainer.enable_progress_bar=false"]


def trained(folder: Path, *words: str) -> tuple[Results, float]:
    began = time.perf_counter()
    root = f"data.root={os.environ['ROBUSTML_DATA']}"  # the forked command does not see the variable
    outcome = command("train", *words, *PGD_50, root, f"output={folder}", cwd=folder, before=with_all_cores)
    assert outcome.status == 0, outcome.err
    return read_results(outcome.run), time.perf_counter() - began


def with_all_cores() -> None:
    """Forked commands run on one thread; the four minutes are for two."""
    torch.set_num_threads(os.cpu_count() or 1)


def full_clean_accuracy(folder: Path, run: Path) -> float:
    outcome = command("evaluate", f"run={run}", "evaluation=clean", cwd=folder)
    assert outcome.status == 0, outcome.err
    value = read_results(outcome.run).clean_accuracy.value
    assert value is not None
    return value


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fast_training_is_robust_on_every_seed(seed: int, tmp_path: Path) -> None:
    results, seconds = trained(tmp_path, "experiment=mnist_fgsm_rs", f"seed={seed}")
    (run,) = (tmp_path / "mnist_fgsm_rs").iterdir()
    assert full_clean_accuracy(tmp_path, run) >= 0.98
    robust = results.attacks["pgd"].robust_accuracy
    assert robust.n == 2000
    assert robust.value is not None
    assert robust.value >= 0.85
    assert seconds < 240 or (os.cpu_count() or 1) < 2


def test_the_same_network_without_attacks_is_not(tmp_path: Path) -> None:
    results, _ = trained(tmp_path, "experiment=mnist_standard")
    value = results.attacks["pgd"].robust_accuracy.value
    assert value is not None
    assert value < 0.02
