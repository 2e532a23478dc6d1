"""`robustml reproduce` on a tiny paper: done, missed, interrupted, refused."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from integration.conftest import TRAINING
from integration.files import sha256
from integration.forks import Outcome, background, command
from robustml.results.reproduction import read_reproduction

PAPER: dict[str, Any] = {
    "id": "tiny",
    "title": "A tiny paper",
    "citation": "Nobody, 2026",
    "fidelity": "reduced",
    "budget": {"device": "cpu2", "minutes": 1},
    "deviations": ["it does not exist"],
    "third_party": [{"what": "a guess", "value": "12.3", "source": "a friend"}],
    "variants": [{"name": "main", "overrides": ["callbacks=health"]}],
    "published": [
        {"metric": "clean_accuracy", "value": 0.5, "tolerance": 0.5, "seen": "repo", "source": "a README"},
        {"metric": "robust_accuracy@autoattack", "value": 0.5, "tolerance": 0.1, "seen": "repo", "source": "a README"},
    ],
}
SHORT = (*TRAINING, "evaluation=clean")


def in_this_process(words: list[str], log: IO[str]) -> int:
    """Train in a fork, in place of a new interpreter, which would import torch for seconds."""
    child = os.fork()
    if not child:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
        from robustml.cli import main

        sys.argv = ["robustml", *words]
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def quickly() -> None:
    from robustml.workflows import reproduce

    reproduce.launch = in_this_process


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """A user's configs with one paper."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    write(folder, PAPER)
    return tmp_path / "mine"


def write(folder: Path, paper: dict[str, object]) -> None:
    content = yaml.safe_dump({"defaults": ["digits_pgd"], "name": "tiny", "paper": paper}, sort_keys=False)
    (folder / "tiny.yaml").write_text(f"# @package _global_\n{content}")


def reproduce(papers: Path, *given: str) -> Outcome:
    words = ("--config-dir", papers, "out=made", *SHORT, *given)
    return command("reproduce", "tiny", *words, cwd=papers.parent, before=quickly, drawn=True)


def test_a_paper_is_reproduced_once(papers: Path) -> None:
    first = reproduce(papers, "seeds=2", "n_eval=40")
    assert first.status == 0, first.out + first.err
    folder = papers.parent / "made" / "tiny"
    outcome = read_reproduction(folder / "reproduction.json")
    assert [row.verdict for row in outcome.comparisons][1] == "not measured"
    assert outcome.comparisons[0].n == 40
    assert [(run.variant, run.seed) for run in outcome.runs] == [("main", 0), ("main", 1)]
    assert "within their tolerance. Not measured: robust_accuracy@autoattack.\nrun: " in first.out
    for said in ("seed 0", "seed 1", "it does not exist", "12.3 (a friend)", "a README", "2 CPU cores"):
        assert said in first.out
    page = (folder / "reproduction.html").read_text()
    assert "<h1>A tiny paper</h1>" in page
    assert "<svg" in page
    assert ">main, seeds 0, 1<" in (folder / "reproduction.svg").read_text()

    weights = folder / "main" / "seed-0" / "model.safetensors"
    before = sha256(weights), weights.stat().st_mtime_ns
    again = reproduce(papers, "seeds=2", "n_eval=40")
    assert again.out.count("done before") == 2
    assert (sha256(weights), weights.stat().st_mtime_ns) == before

    other = reproduce(papers, "seeds=2", "n_eval=40", "optimizer.lr=0.02")
    assert other.status == 2
    assert "optimizer.lr=0.01, and optimizer.lr=0.02 is asked for: choose another out=" in other.error

    # A figure that misses its tolerance, and a tolerance that was changed: nothing is trained for that.
    missed = {"metric": "clean_accuracy", "value": 1.0, "tolerance": 0.001, "seen": "repo", "source": "a README"}
    write(papers / "experiment", PAPER | {"published": [missed, PAPER["published"][1]]})
    judged = reproduce(papers, "seeds=2", "n_eval=40")
    assert judged.status == 1
    said = "error: tiny is not reproduced: main clean_accuracy: off; not measured: robust_accuracy@autoattack"
    assert judged.error == said
    assert judged.out.count("done before") == 2


@pytest.mark.slow
def test_killed_and_given_again(papers: Path, tmp_path: Path) -> None:
    words = [word for word in SHORT if not word.startswith("trainer.max_epochs")] + ["seeds=[3]"]
    write(papers / "experiment", PAPER | {"variants": [{"name": "main", "overrides": ["trainer.max_epochs=6"]}]})
    task = ("reproduce", "tiny", "--config-dir", papers, *words)
    whole = command(*task, "out=whole", cwd=tmp_path, before=quickly)
    assert whole.status == 0, whole.err

    log = tmp_path / "killed" / "tiny" / "main" / "seed-3" / "train.log"
    parent = background(*task, "out=killed", out=tmp_path / "out", err=tmp_path / "err", cwd=tmp_path)
    deadline = time.monotonic() + 200
    while not (log.parent / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert parent.pid is not None
    os.kill(parent.pid, signal.SIGKILL)  # the training itself goes on, and whoever comes waits for it
    parent.join()
    outcome = command(*task, "out=killed", cwd=tmp_path, before=quickly)
    assert outcome.status == 0, outcome.err
    assert not any("holds a run already" in line for line in log.read_text().splitlines())
    ends = [tmp_path / name / "tiny" / "main" / "seed-3" / "model.safetensors" for name in ("whole", "killed")]
    assert sha256(ends[0]) == sha256(ends[1])


def killed_in_the_third_epoch() -> None:
    from integration import sabotage

    quickly()
    sabotage._in_batch(2, 0)


@pytest.mark.slow
def test_a_training_that_was_killed_is_resumed(papers: Path, tmp_path: Path) -> None:
    write(papers / "experiment", PAPER | {"variants": [{"name": "main", "overrides": ["trainer.max_epochs=4"]}]})
    words = ("reproduce", "tiny", "--config-dir", papers, *[word for word in SHORT if "max_epochs" not in word])
    first = command(*words, "out=killed", cwd=tmp_path, before=killed_in_the_third_epoch)
    assert first.status == 1
    assert "failed" in first.err
    again = command(*words, "out=killed", cwd=tmp_path, before=quickly)
    assert "resumed" in again.out
    assert command(*words, "out=whole", cwd=tmp_path, before=quickly).status == 0
    ends = [tmp_path / name / "tiny" / "main" / "seed-0" / "model.safetensors" for name in ("whole", "killed")]
    assert sha256(ends[0]) == sha256(ends[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wong2020_fast_mnst"], "did you mean 'wong2020_fast_mnist'"),
        (["wong2020_fast_mnist", "seeds=none"], "seeds must be a whole number"),
        (["wong2020_fast_mnist", "seeds=[a]"], "seeds=[a]: expected how many"),
        (["wong2020_fast_mnist", "seed=3"], "write seeds=[3]"),
        (["wong2020_fast_mnist", "n_eval=0"], "n_eval must be"),
        (["wong2020_fast_mnist", "variants=[gaurded]"], "did you mean 'guarded'"),
        (["wong2020_fast_mnist", "experiment=digits_pgd"], "reproduce sets experiment itself"),
        (["wong2020_fast_mnist", "thread.eps=1"], "thread.eps"),
        (["wong2020_fast_mnist", "out"], "expected <option>=<value>"),
        (["--config-dir=nowhere", "tiny"], "is not a folder"),
    ],
)
def test_requests_that_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    outcome = command("reproduce", *words, cwd=tmp_path)
    assert outcome.status == 2
    assert message in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["--list"]])
def test_the_list(words: list[str], papers: Path) -> None:
    out = command("reproduce", *words, "--config-dir", papers, cwd=papers.parent).out
    for said in ("wong2020_fast_mnist", "bartoldson2024", "many GPUs", "tiny", "not yet run", "exact", "adapted"):
        assert said in out
