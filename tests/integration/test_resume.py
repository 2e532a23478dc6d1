"""Killed at any moment, then resumed: the same weights, bit for bit, as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import robustml
from integration import sabotage
from integration.files import left, sha256, untimed_metrics
from integration.forks import Outcome, command, finish, start
from integration.test_evaluate import figures
from robustml.errors import RequestError
from robustml.results import read_results
from robustml.workflows.settings import read_settings
from robustml.workflows.training.resume import check_resume

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
    "evaluation.attacks.mifgsm.steps=2",
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
    assert "resumed: after epoch 3, trainer.max_epochs is 4, not 3 as before" in outcome.out
    assert [row["epoch"] for row in untimed_metrics(outcome.run)] == ["1", "2", "3", "4"]


def test_no_space_left_in_a_patched_writer(uninterrupted: Path, tmp_path: Path) -> None:
    outcome = command("train", *LONG, cwd=tmp_path, before=sabotage.no_space_left)
    assert outcome.status == 1
    assert "last.ckpt: No space left on device; what stood there is intact" in outcome.error
    (run,) = (tmp_path / "outputs" / "long").iterdir()
    assert not list(run.rglob("*.tmp"))
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


@pytest.mark.slow
def test_no_space_left_on_a_full_disk(uninterrupted: Path, small_disk: Path, tmp_path: Path) -> None:
    run = killed(small_disk, sabotage.in_the_last_epoch)
    checkpoints = {name: sha256(run / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt")}
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    size = (run / "checkpoints" / "last.ckpt").stat().st_size
    (small_disk / "ballast").write_bytes(bytes(free - size // 2))
    outcome = command("train", f"resume={run}", cwd=tmp_path)
    assert outcome.status == 1
    assert "cannot write" in outcome.error
    assert "what stood there is intact" in outcome.error
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


# What the checkpoint would restore over it, or what would be true of a part of the training only.
FIXED = {
    "optimizer.lr": 0.5,
    "optimizer.weight_decay": 0.1,
    "scheduler": {"_target_": "robustml.training.Cosine"},
    "seed": 1,
    "data.batch_size": 16,
    "data.val_size": 10,
    "model.channels": [8, 8],
    "threat.eps": 0.2,
    "objective.share": 0.5,
    "objective.attack.steps": 9,
    "validation.monitor": "clean",
    "validation.attack.steps": 9,
    "trainer.precision": "bf16-true",
    "trainer.gradient_clip_val": 1.0,
    "trainer.accumulate_grad_batches": 2,
    "trainer.limit_train_batches": 2,
    "trainer.val_check_interval": 0.5,
    "callbacks.ema": {"_target_": "robustml.training.callbacks.EMA"},
}
FREE = {
    "trainer.max_epochs": 5,
    "trainer.enable_progress_bar": True,
    "evaluation.attacks.pgd.steps": 9,
    "logger.csv": {"_target_": "pytorch_lightning.loggers.CSVLogger"},
    "callbacks.monitor": {"_target_": "pytorch_lightning.callbacks.LearningRateMonitor"},
    "name": "other",
}


def changed(settings: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    copy: Any = json.loads(json.dumps(settings))
    *parents, last = key.split(".")
    node = copy
    for parent in parents:
        node = node[parent]
    node[last] = value
    return dict(copy)


@pytest.mark.parametrize("key", [*FIXED, *FREE])
def test_what_is_overridden_on_resume_applies_or_is_refused(
    key: str, trained: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = read_settings(trained.run)
    settings = changed(recorded, key, (FIXED | FREE)[key])
    if key in FREE:
        check_resume(trained.run, settings, recorded, has_validation=True)
        assert f"resumed: after epoch 3, {key}" in capsys.readouterr().out
        return
    with pytest.raises(RequestError, match=rf"{key}\S* cannot change on the way .*robustml finetune"):
        check_resume(trained.run, settings, recorded, has_validation=True)


def test_an_override_that_is_refused_leaves_the_run_as_it_was(run_copy: Path, tmp_path: Path) -> None:
    before = {name: sha256(run_copy / name) for name in left(run_copy)}
    outcome = command("train", f"resume={run_copy}", "trainer.max_epochs=4", "optimizer.lr=0.5", cwd=tmp_path)
    assert outcome.status == 2
    assert "optimizer.lr cannot change on the way (recorded 0.01, asked for 0.5)" in outcome.error
    assert {name: sha256(run_copy / name) for name in left(run_copy)} == before


DAMAGES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "best gone": ("checkpoints/best.ckpt", Path.unlink, "best.ckpt is missing"),
    "best empty": ("checkpoints/best.ckpt", lambda path: path.write_bytes(b""), "best.ckpt is empty"),
    "last empty": ("checkpoints/last.ckpt", lambda path: path.write_bytes(b""), "last.ckpt is empty"),
    "last cut": ("checkpoints/last.ckpt", lambda path: path.write_bytes(path.read_bytes()[:999]), "last.ckpt is dam"),
    "last gone": ("checkpoints/last.ckpt", Path.unlink, "last.ckpt is missing"),
    "weights alone": ("checkpoints/last.ckpt", lambda path: torch.save({"state_dict": {}}, path), "lacks optimizer_st"),
    "a list": ("checkpoints/last.ckpt", lambda path: torch.save([1], path), "last.ckpt is no checkpoint"),
    "metrics empty": ("metrics.csv", lambda path: path.write_bytes(b""), "metrics.csv is empty"),
    "metrics gone": ("metrics.csv", Path.unlink, "metrics.csv"),
    "metrics not text": ("metrics.csv", lambda path: path.write_bytes(b"\xff\xfe\x00"), "metrics.csv is damaged"),
    "metrics other": ("metrics.csv", lambda path: path.write_text("a,b\n1,2\n"), "metrics.csv is damaged"),
    "metrics cut": ("metrics.csv", lambda path: path.write_text(path.read_text()[:-40]), "metrics.csv is damaged"),
    "a row gone": (
        "metrics.csv",
        lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1])),
        "epoch 3 has no row",
    ),
}


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_in_one_line(
    name: str, damage: Callable[[Path], Any], said: str, run_copy: Path
) -> None:
    damage(run_copy / name)
    settings = read_settings(run_copy)
    with pytest.raises(RequestError) as caught:
        check_resume(run_copy, settings, settings, has_validation=True)
    assert said in str(caught.value)
    assert str(run_copy / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_an_older_version_counts_its_epochs_anew(run_copy: Path, tmp_path: Path) -> None:
    lines = (run_copy / "metrics.csv").read_text().splitlines()
    older = [lines[0], *(f"{int(line[0]) - 1}{line[1:]}" for line in lines[1:])]
    (run_copy / "metrics.csv").write_text("\n".join(older) + "\n")
    outcome = command("train", f"resume={run_copy}", "trainer.max_epochs=4", cwd=tmp_path)
    assert [row["epoch"] for row in untimed_metrics(outcome.run)] == ["1", "2", "3", "4"]
