"""What a command writes: which files it opens for that, and what a kill at each of these moments would leave."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

__all__ = ["RECORD", "WATCHED", "watch"]

# Environment: the folder that is watched, and the one that gets a copy of it before each file takes its place.
WATCHED, RECORD = "TEST_WATCHED", "TEST_RECORD"


def watch() -> None:
    """Called in the process of a command: note every opening for writing, and keep what is there at each sync."""
    watched, record = Path(os.environ[WATCHED]).resolve(), Path(os.environ[RECORD])
    record.mkdir(parents=True)
    log = (record / "opened").open("w")

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | os.PathLike):
            return
        path, flags = Path(os.path.abspath(arguments[0])), int(str(arguments[2]))
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and path.is_relative_to(watched):
            log.write(f"{path.relative_to(watched).as_posix()}\n")
            log.flush()

    sync = os.fsync

    def keeping(descriptor: int) -> None:
        sync(descriptor)
        written = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if written.is_relative_to(watched) and written.name.endswith(".tmp"):
            number = len([entry for entry in record.iterdir() if entry.is_dir()])
            name = written.name[1:].rpartition(f".{socket.gethostname()}-")[0].rpartition(".")[0]
            shutil.copytree(watched, record / f"{number:02} {name}")

    os.fsync = keeping
    sys.addaudithook(hook)
