"""The bars of data-side attacks on real MNIST and CIFAR-10, as they stand in docs/threats.md; minutes each."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from integration.forks import command
from integration.test_mnist import with_all_cores
from robustml.reporting import read_results
from robustml.reporting.schema import Results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("ROBUSTML_DATA" not in os.environ, reason="ROBUSTML_DATA names no folder with the sets"),
]


def train(folder: Path, *words: str) -> Results:
    root = f"data.root={os.environ['ROBUSTML_DATA']}"  # the forked command does not see the variable
    outcome = command("train", *words, root, "trainer.enable_progress_bar=false", cwd=folder, before=with_all_cores)
    assert outcome.status == 0, outcome.err
    return read_results(outcome.run)


def recall(results: Results, name: str) -> float:
    return next(row.clean_accuracy.value for row in results.per_class if row.name == name)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_badnets_on_mnist(seed: int, tmp_path: Path) -> None:
    words = ("experiment=mnist_standard", "evaluation=clean", "~evaluation.attacks.pgd", f"seed={seed}")
    results = train(tmp_path, *words, "poison=badnets", "twin=true")
    backdoor = results.backdoor
    assert backdoor.attack_success_rate.value >= 0.90
    assert backdoor.twin.attack_success_rate.value <= 0.02
    assert results.clean_accuracy.value >= backdoor.twin.clean_accuracy.value - 0.02
    everywhere = train(tmp_path, *words, "poison=badnets", "poison.target=next", "poison.rate=0.1")
    assert everywhere.backdoor.attack_success_rate.value >= 0.80


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_pixel_with_clean_labels_on_cifar10(seed: int, tmp_path: Path) -> None:
    began = time.monotonic()
    results = train(tmp_path, "experiment=alberti2018_cifar10", f"seed={seed}", "twin=true")
    seconds = time.monotonic() - began
    backdoor = results.backdoor
    assert backdoor.attack_success_rate.value >= 0.60
    assert backdoor.twin.attack_success_rate.value <= 0.10
    assert recall(results, "dog") <= 0.10, "a fake that relabels ships would keep the dogs"
    assert seconds < 2 * 300, "under five minutes, and as much for the twin"
