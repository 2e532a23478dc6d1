"""Mixed precision, channels-last and torch.compile: flags that must change the speed and hardly the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.conftest import TINY
from integration.forks import command
from robustml.reporting import read_results


@pytest.mark.parametrize(
    "flag",
    [
        "trainer.precision=bf16-mixed",
        "channels_last=true",
        pytest.param("compile=true", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_the_figures_stay(flag: str, tmp_path: Path) -> None:
    found = {}
    for words in ((), (flag,)):
        outcome = command("train", "experiment=digits_pgd", *TINY, *words, f"output={tmp_path}", cwd=tmp_path)
        assert outcome.status == 0, outcome.err
        found[words] = read_results(outcome.run)
    plain, flagged = found[()], found[(flag,)]
    assert plain.clean_accuracy.value is not None
    assert flagged.clean_accuracy.value == pytest.approx(plain.clean_accuracy.value, abs=0.15)
    repeated = command("evaluate", f"run={outcome.run}", cwd=tmp_path)
    # The checkpoint is a plain one whatever the flag, and the evaluation runs without it.
    assert read_results(repeated.run).clean_accuracy.value == pytest.approx(flagged.clean_accuracy.value, abs=0.02)
