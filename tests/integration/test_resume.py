"""Killed at any moment, then resumed: the same weights, bit for bit, as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import robustml
from integration import sabotage
from integration.files import left, sha256, untimed_metrics
from integration.forks import command, finish, start
from integration.test_evaluate import figures
from robustml.reporting import read_results

# Everything that is random: the order, augmentation, dropout, the attack's starts; and everything that has a state.
LONG = (
    "debug=fast",
    "experiment=digits_pgd",
    "name=long",
    "model=mlp",
    "model.hidden=[32]",
    "model.dropout=0.2",
    "data.augment=[{_target_: robustml.data.RandomCrop, padding: 1}]",
    "trainer.max_epochs=4",
    "trainer.limit_train_batches=1.0",
    "data.train_limit=160",
    "attack.steps=2",
    "validation.attack.steps=2",
    "evaluation.attacks.pgd.steps=2",
    "evaluation.attacks.mifgsm.params.steps=2",
    "evaluation.curve=null",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return command("train", *LONG, cwd=tmp_path_factory.mktemp("uninterrupted")).run


def killed(folder: Path, before: Callable[[], None]) -> Path:
    """The directory of a run that was killed."""
    outcome = command("train", *LONG, cwd=folder, before=before)
    assert outcome.status == -signal.SIGKILL, outcome.out + outcome.err
    (run,) = (folder / "outputs" / "long").iterdir()
    return run


def assert_same(run: Path, expected: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        first, second = (torch.load(path / "checkpoints" / name, weights_only=True) for path in (run, expected))
        assert first["epoch"] == second["epoch"]
        assert all(torch.equal(first["state_dict"][key], value) for key, value in second["state_dict"].items())
    assert sha256(run / "model.safetensors") == sha256(expected / "model.safetensors")
    assert untimed_metrics(run) == untimed_metrics(expected)
    assert figures(read_results(run / "results.json")) == figures(read_results(expected / "results.json"))
    assert left(run) == left(expected), "something is missing, or what was half written is still there"


@pytest.mark.parametrize(
    "moment",
    [*sabotage.MOMENTS, *(pytest.param(moment, marks=pytest.mark.slow) for moment in sabotage.MORE_MOMENTS)],
    ids=lambda moment: moment.__name__,
)
def test_resume_after_a_kill(moment: Callable[[], None], uninterrupted: Path, tmp_path: Path) -> None:
    run = killed(tmp_path, moment)
    outcome = command("train", f"resume={run}", cwd=tmp_path)
    assert outcome.err == ""
    assert outcome.run == run
    assert_same(run, uninterrupted)


@pytest.mark.slow
def test_resume_after_two_kills(uninterrupted: Path, tmp_path: Path) -> None:
    run = killed(tmp_path, sabotage.in_the_second_epoch)
    outcome = command("train", f"resume={run}", cwd=tmp_path, before=sabotage.in_the_last_epoch)
    assert outcome.status == -signal.SIGKILL
    assert command("train", f"resume={run}", cwd=tmp_path).run == run
    assert_same(run, uninterrupted)


def test_a_folder_can_be_moved_and_resumed_by_a_relative_path(uninterrupted: Path, tmp_path: Path) -> None:
    run = killed(tmp_path, sabotage.in_the_second_epoch)
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(run, moved)
    shutil.rmtree(run)
    assert command("train", "resume=run", cwd=moved.parent).run == moved
    assert_same(moved, uninterrupted)


def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    run = shutil.copytree(uninterrupted, tmp_path / "run")
    assert command("train", f"resume={run}", cwd=tmp_path).run == run
    assert_same(run, uninterrupted)


def test_a_finished_run_can_be_trained_further(run_copy: Path, tmp_path: Path) -> None:
    outcome = command("train", f"resume={run_copy}", "trainer.max_epochs=4", cwd=tmp_path)
    assert [row["epoch"] for row in untimed_metrics(outcome.run)] == ["0", "1", "2", "3"]


def test_no_space_left_in_a_patched_writer(uninterrupted: Path, tmp_path: Path) -> None:
    outcome = command("train", *LONG, cwd=tmp_path, before=sabotage.no_space_left)
    assert outcome.status == 2
    assert "last.ckpt: No space left on device; the previous one is intact" in outcome.error
    (run,) = (tmp_path / "outputs" / "long").iterdir()
    assert not list(run.rglob("*.partial"))
    assert robustml.load_model(run, "last")
    assert command("train", f"resume={run}", cwd=tmp_path).run == run
    assert_same(run, uninterrupted)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root; the patched writer above stands in for it")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_no_space_left_on_a_full_disk(uninterrupted: Path, small_disk: Path, tmp_path: Path) -> None:
    run = killed(small_disk, sabotage.in_the_last_epoch)
    checkpoints = {name: sha256(run / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt")}
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    size = (run / "checkpoints" / "last.ckpt").stat().st_size
    (small_disk / "ballast").write_bytes(bytes(free - size // 2))
    outcome = command("train", f"resume={run}", cwd=tmp_path)
    assert outcome.status == 2
    assert "cannot save the checkpoint" in outcome.error
    assert "the previous one is intact" in outcome.error
    assert {name: sha256(run / "checkpoints" / name) for name in checkpoints} == checkpoints
    assert robustml.load_model(run, "last")
    (small_disk / "ballast").unlink()
    assert command("train", f"resume={run}", cwd=tmp_path).run == run
    assert_same(run, uninterrupted)


@pytest.mark.slow
def test_kill_9_of_the_real_script(tmp_path: Path) -> None:
    words = [word for word in LONG if not word.startswith("trainer.max_epochs")] + ["trainer.max_epochs=40"]
    expected = finish(start("train", *words, "output=whole", cwd=tmp_path)).run
    process = start("train", *words, "output=killed", cwd=tmp_path)
    table = None
    while table is None or len(table.read_text().splitlines()) < 4:
        assert process.poll() is None
        table = next(iter(tmp_path.glob("killed/long/*/metrics.csv")), None)
        time.sleep(0.01)
    process.kill()
    assert finish(process).status == -signal.SIGKILL
    assert not (table.parent / "results.json").exists()
    assert finish(start("train", f"resume={table.parent}", cwd=tmp_path)).run == table.parent
    assert_same(table.parent, expected)
