"""Files are written whole or not at all, and what others wrote is read with one line of complaint."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest

from robustml.errors import RequestError, RunFailed
from robustml.files import read_json, read_text, replacing, sweep, write_text


def _die_while_writing(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def _write_half(path: Path, error: BaseException) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise error


def test_a_kill_leaves_the_old_content_and_the_next_writer_sweeps_up(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a [1]*.txt", "old")
    child = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2, "the killed process should have left its half behind"
    write_text(path, "new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(path.name, "new")]


def test_an_exception_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt):
        _write_half(path, KeyboardInterrupt())
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_what_a_living_process_writes_is_not_swept(tmp_path: Path) -> None:
    other = tmp_path / f".a.txt.0a1b2c3d.{socket.gethostname()}-{os.getppid()}.tmp"
    elsewhere = tmp_path / ".a.txt.0a1b2c3d.another.host-1.tmp"
    for path in (other, elsewhere):
        path.write_text("half")
    sweep(tmp_path)
    assert other.exists()
    assert elsewhere.exists()


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(RunFailed, match=r"cannot write .*a\.txt: No space left on device; nothing was left there"):
        _write_half(tmp_path / "a.txt", full)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\xff\xfe{}", "byte 0 is not UTF-8"),
        (b"{", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'"' + b"a" * 200 + b'"', "is larger than"),
    ],
)
def test_what_others_wrote_gets_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    largest = 100 if len(content) == 202 else 2**20
    with pytest.raises(RequestError, match=says):
        read_json(path, largest)


def test_absent_files_and_folders_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No such file"):
        read_text(tmp_path / "none")
    with pytest.raises(RequestError, match="Is a directory"):
        read_text(tmp_path)
