"""One tiny trained run that many tests look at, and copies of it for those that change it."""

from __future__ import annotations

import multiprocessing.forkserver
import shutil
from pathlib import Path

import pytest

from integration.forks import Outcome, command

HERE = Path(__file__).parent
# Enough epochs to have a best and a last one; few enough images to take a second.
TRAINING = (
    "debug=fast",
    "trainer.max_epochs=3",
    "optimizer.lr=0.01",
    "data.train_limit=192",
    "trainer.limit_train_batches=1.0",
    "validation.attack.steps=3",
    "attack.steps=2",
    "data.test_limit=90",
)
TINY = (
    *TRAINING,
    "evaluation.limit=null",
    "evaluation.batch_size=25",
    "evaluation.attacks.pgd.steps=3",
    "evaluation.attacks.mifgsm.steps=2",
    "evaluation.curve.relative=[0,1]",
)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the fork server import torch while the first tests run."""
    if any(HERE in item.path.parents for item in session.items):
        multiprocessing.forkserver.ensure_running()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTML_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """`robustml train` on a few digits. To be looked at only: `run_copy` is for changing."""
    folder = tmp_path_factory.mktemp("trained")
    words = ("experiment=digits_pgd", *TINY, f"output={folder}", "threat.eps=8/255")
    outcome = command("train", *words, cwd=folder, drawn=True)
    assert outcome.status == 0, outcome.err
    return outcome


@pytest.fixture
def run_copy(trained: Outcome, tmp_path: Path) -> Path:
    """A copy of the trained run, to change."""
    return shutil.copytree(trained.run, tmp_path / "run")
