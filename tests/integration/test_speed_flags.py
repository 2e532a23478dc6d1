"""Mixed precision, channels-last and torch.compile: flags that must change the speed and hardly the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.conftest import TINY
from integration.forks import Outcome, command
from robustml.results import read_results


def train(folder: Path, *words: str) -> Outcome:
    outcome = command("train", "experiment=digits_pgd", *TINY, "trainer.max_epochs=5", *words, cwd=folder)
    assert outcome.status == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Trained without any of the flags."""
    return train(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "flag",
    [
        "trainer.precision=bf16-mixed",
        "channels_last=true",
        pytest.param("compile=true", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_the_figures_stay(flag: str, plain: Outcome, tmp_path: Path) -> None:
    flagged = train(tmp_path, flag)
    accuracy = read_results(flagged.run).clean_accuracy.value
    assert accuracy == pytest.approx(read_results(plain.run).clean_accuracy.value, abs=0.15)
    repeated = command("evaluate", f"run={flagged.run}", cwd=tmp_path)
    # The checkpoint is a plain one whatever the flag, and the evaluation runs without it.
    assert read_results(repeated.run).clean_accuracy.value == pytest.approx(accuracy, abs=0.02)
