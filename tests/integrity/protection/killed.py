"""Processes that are killed, or whose disk is full, at a moment of protecting or restoring; called in forked ones."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustml.integrity.protection import protect, protecting, restore
from robustml.integrity.protection.stores import _Files

__all__ = ["Call", "after", "protecting_again", "restoring", "shortly"]

Call = Callable[[Path], object]


def protecting_again(root: Path) -> None:
    """The set as it is now, over the one that the places have."""
    protecting._CHUNK = 512
    places = [str(root / name) for name in "abcdef"]
    new = {path.name: path for path in (root / "new").iterdir()}
    protect(new, places, 4, root / "keys")


def restoring(root: Path) -> None:
    """Into the set, which was altered, healing the places."""
    restore([str(root / name) for name in "abcdef"], root / "keys", root / "set")


def after(count: int, call: Call, root: Path) -> None:
    """Die before the `count`th thing (from 0) that is done to a place or to the set."""
    lock, left = threading.Lock(), iter(range(count))

    def counted(method: Any) -> Any:
        def dying(*arguments: Any, **options: Any) -> Any:
            with lock:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **options)

        return dying

    for name in ("write", "create", "remove", "size"):
        setattr(_Files, name, counted(getattr(_Files, name)))
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
    Path.rename = counted(Path.rename)  # type: ignore[method-assign]
    os.fsync = counted(os.fsync)
    call(root)


def shortly(seed: int, call: Call, root: Path) -> None:
    """Die within the time that it takes, whatever is being done then."""
    timer = threading.Timer(random.Random(seed).uniform(0, 0.15), os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
    call(root)


def full(room: int, place: int, call: Call, root: Path) -> None:
    """One of the disks takes only so many bytes more."""
    opening = _Files.write

    def write(self: _Files, name: str) -> Any:
        file = opening(self, name)
        if self.folder != str(root / "abcdef"[place]):
            return file
        left = [room]

        class Full:
            def write(self, content: bytes) -> None:
                left[0] -= len(content)
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                file.write(content)

            def __getattr__(self, attribute: str) -> Any:
                return getattr(file, attribute)

        return Full()

    _Files.write = write  # type: ignore[method-assign]
    call(root)
