"""A crash at any moment, a full disk, a place that hangs: what stood there stands, or the new state does."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.forks import call

from integrity.protection import killed
from integrity.protection.conftest import CONTENT, Kept, tree, written
from robustml.errors import RunFailed
from robustml.integrity.protection.stores import _Files

NEW = {"new": b"new" * 3_000, "train.parquet": b"other" * 900}
# Of the moments of protecting and of restoring; the slow test takes them all.
FEW = (0, 5, 13, 19, 22, 26, 33)


def check_killed_protect(kept: Kept, *moment: Any) -> bool:
    """Protect `NEW` over `CONTENT` and die; returns whether it had come to its end before."""
    written(kept.root / "new", NEW)
    outcome = call(moment[0], *moment[1:], killed.protecting_again, kept.root, cwd=kept.root)
    assert outcome.status in (0, -9), outcome.err
    kept.restore("check", heal=False)
    state = tree(kept.root / "check")
    assert state == NEW if outcome.status == 0 else state in (CONTENT, NEW)
    shutil.rmtree(kept.root / "check")
    kept.protect()
    assert [len(names) for names in kept.states()] == [2] * 6, "what was left behind is removed"
    kept.restore("check")
    assert tree(kept.root / "check") == CONTENT
    shutil.rmtree(kept.root / "check")
    return outcome.status == 0


def check_killed_restore(kept: Kept, *moment: Any) -> bool:
    """Restore a set of which a file was altered, in two bad places, and die; returns whether it had ended before."""
    whole = kept.shards()
    kept.alter(1)
    kept.lose(4)
    altered = CONTENT | {"train.parquet": b"altered"}
    written(kept.root / "set", altered)
    outcome = call(moment[0], *moment[1:], killed.restoring, kept.root, cwd=kept.root)
    assert outcome.status in (0, -9), outcome.err
    state = {name: value for name, value in tree(kept.root / "set").items() if not name.startswith(".")}
    assert state == CONTENT if outcome.status == 0 else state in (CONTENT, altered)
    kept.restore("set")
    assert tree(kept.root / "set") == CONTENT, "and nothing is left behind"
    assert kept.restore(None).wrong == {}
    assert all(shard in content for (shard,), content in zip(whole, kept.shards(), strict=True))
    kept.protect()
    return outcome.status == 0


@pytest.mark.parametrize("moment", [9, 20, 26, 33])
def test_kill_9_while_protecting(kept: Kept, moment: int) -> None:
    assert not check_killed_protect(kept, killed.after, moment)


@pytest.mark.parametrize("moment", [4, 9])
def test_kill_9_while_restoring(kept: Kept, moment: int) -> None:
    assert not check_killed_restore(kept, killed.after, moment)


@pytest.mark.slow
def test_kill_9_at_every_moment(kept: Kept) -> None:
    for check in (check_killed_protect, check_killed_restore):
        moments = 0
        while not check(kept, killed.after, moments):
            moments += 1
        print(f"{check.__name__}: killed at {moments} moments")
        assert moments > 10


@pytest.mark.slow
def test_kill_9_at_fifty_random_times(kept: Kept) -> None:
    for check in (check_killed_protect, check_killed_restore):
        ended = [check(kept, killed.shortly, seed) for seed in range(25)]
        print(f"{check.__name__}: {ended.count(False)} of 25 did not come to their end")
        assert ended.count(False) > 5


@pytest.mark.parametrize("room", [0, 700, 3_300])
def test_a_full_place(kept: Kept, room: int) -> None:
    before = kept.states()
    written(kept.root / "new", NEW)
    outcome = call(killed.full, room, 3, killed.protecting_again, kept.root, cwd=kept.root)
    said = f"RunFailed: 5 of 6 places take their shard, and all must ({kept.places[3]}: full: No space left on device)"
    assert f"{said}; nothing was changed" in outcome.err
    assert kept.states() == before


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 4096])  # a page, for the shard but not for its head
def test_a_full_disk(kept: Kept, room: int) -> None:
    """A real one: a file system of a megabyte."""
    disk = kept.root / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root; the patched store above stands in for it")
    try:
        kept.places[3] = str(disk / "d")
        kept.restore(None)
        before = kept.states()
        kept.content = {"large": os.urandom(8 * 2**20)}
        with pytest.raises(RunFailed, match=r"disk/d: full: No space left on device\); nothing was changed"):
            kept.protect()
        assert kept.states() == before
        kept.lose(3)
        (disk / "ballast").write_bytes(bytes(2**20 - room))
        restored = kept.restore()
        assert restored.wrong == {kept.places[3]: "lost; not healed: full: No space left on device"}
        assert restored.healed == ()
        assert tree(kept.root / "out") == CONTENT
        with pytest.raises(RunFailed, match=r"cannot write .*No space left on device; what stood there is intact"):
            kept.restore("disk/out")
        assert sorted(path.name for path in disk.rglob("*")) == ["ballast", "d"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The folders in this set hang."""
    found: set[str] = set()
    end = threading.Event()
    for name in ("names", "read", "write"):
        real = getattr(_Files, name)

        def method(self: _Files, *arguments: Any, real: Any = real) -> Any:
            if self.folder in found:
                end.wait(30)
                raise OSError("it came to its end")
            return real(self, *arguments)

        monkeypatch.setattr(_Files, name, method)
    yield found
    end.set()


def test_a_place_that_hangs(kept: Kept, hanging: set[str]) -> None:
    before = kept.states()
    hanging.add(kept.places[2])
    with pytest.raises(RunFailed, match=r"c: slow: no answer in 0.2 s\); nothing was changed"):
        kept.protect(timeout=0.2)
    assert kept.states() == before
    kept.alter(5)
    restored = kept.restore(timeout=0.2)
    assert restored.wrong[kept.places[2]] == "slow: no answer in 0.2 s"
    assert restored.healed == (kept.places[5],)
    assert tree(kept.root / "out") == CONTENT
    hanging.clear()
    assert kept.restore(None).wrong == {}


def test_a_place_that_is_no_folder_is_down(kept: Kept) -> None:
    kept.lose(0)
    Path(kept.places[0]).write_bytes(b"")
    restored = kept.restore()
    assert restored.wrong[kept.places[0]].startswith("lost; not healed: ")
    assert tree(kept.root / "out") == CONTENT
    with pytest.raises(RunFailed, match="5 of 6 places take their shard"):
        kept.protect()
