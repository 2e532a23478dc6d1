from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from robustml.errors import RunFailed
from robustml.training import ADVERSARIAL_ACCURACY, AtomicCheckpointIO, best_and_last


def no_space(file: Any) -> None:
    file.write(b"half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def zip_writer(file: Any) -> None:
    file.write(b"half of it")
    raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0\nstack trace\nof many lines")


@pytest.fixture(params=[no_space, zip_writer])
def full_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    fail: Callable[[Any], None] = request.param
    return lambda: monkeypatch.setattr(torch, "save", lambda checkpoint, file: fail(file))


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def test_a_checkpoint_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "best.ckpt"
    for value in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.full((3,), value)}, path)
        assert read(path)["weights"].tolist() == [value] * 3
    assert os.listdir(path.parent) == ["best.ckpt"]


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    before = path.read_bytes()
    full_disk()
    with pytest.raises(RunFailed, match=r"last\.ckpt.*what stood there is intact") as caught:
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_failed_first_write_leaves_nothing(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    full_disk()
    with pytest.raises(RunFailed, match="nothing was left there"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(RunFailed, match="taken"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "taken" / "last.ckpt")


def test_what_cannot_be_pickled_leaves_no_debris(tmp_path: Path) -> None:
    """A mistake in the program, not a full disk: it keeps its own exception."""
    with pytest.raises((AttributeError, TypeError)):
        AtomicCheckpointIO().save_checkpoint({"function": lambda: None}, tmp_path / "last.ckpt")
    assert os.listdir(tmp_path) == []


def test_best_and_last_are_selected_on_the_monitor(tmp_path: Path) -> None:
    both, only_last = best_and_last(tmp_path, ADVERSARIAL_ACCURACY), best_and_last(tmp_path, None)
    assert (both.monitor, both.mode, both.filename, both.CHECKPOINT_NAME_LAST) == (
        "val/adversarial_accuracy",
        "max",
        "best",
        "last",
    )
    assert (only_last.monitor, only_last.filename) == (None, "last")
