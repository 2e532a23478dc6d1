"""Programs in a terminal of 80 columns: when they first spoke, what they left on the screen, how wide it ever was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS = 80
# A path cannot be broken: a line is measured without its first one.
_PATH = re.compile(r"/\S+")
# What a progress bar of rich is drawn with.
BAR = "━"
_CONTROL = re.compile(r"\x1b\[[?]?([0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)|\x1b")


@dataclass(frozen=True)
class Session:
    """How a program ended, the seconds to its first output and to its first progress bar, and what it showed."""

    status: int
    first: float
    work: float
    screen: list[str]
    widest: str

    @property
    def run(self) -> Path:
        """The run directory that the last line names."""
        assert self.status == 0, "\n".join(self.screen)
        return Path(self.screen[-1].removeprefix("run: "))


def session(*words: object, cwd: Path, env: Mapping[str, str], only_start: bool = False) -> Session:
    """Run a program; with `only_start`, kill it where its work begins."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    began = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in words],
        cwd=cwd,
        env={**env, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    first = work = float("inf")
    said = b""
    while (more := _read(ours)) or process.poll() is None:
        now = time.monotonic() - began
        said += more
        first = min(first, now) if more else first
        if BAR.encode() in more:
            work = min(work, now)
            if only_start:
                os.killpg(process.pid, signal.SIGKILL)
                only_start = False
    os.close(ours)
    return Session(process.wait(), first, work, *_draw(said.decode(errors="replace")))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def _draw(said: str) -> tuple[list[str], str]:
    """The lines that a terminal shows in the end, and the widest that it ever showed."""
    lines, row, column, widest = [""], 0, 0, ""
    for sequence in _CONTROL.finditer(said):
        amount, code, newline, text = sequence.groups()
        if newline == "\r":
            column = 0
        elif newline:
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
            widest = max(widest, _PATH.sub("", lines[row], count=1).rstrip(), key=len)
        elif code == "A":
            row = max(0, row - int(amount or 1))
        elif code == "K":
            lines[row] = "" if amount == "2" else lines[row][:column]
    kept = [line.rstrip() for line in lines]
    while kept and not kept[-1]:
        kept.pop()
    return kept, widest
