"""SIGINT and SIGTERM: whatever a verb is doing, it ends in one line that says how to go on, and with 128 + the signal.

A scheduler that ends a job, or a user who presses Ctrl-C, must not read success off the exit status. Lightning would
end with 1 after SIGINT, and with 0 and no word after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from robustml.errors import pasteable


class Stopped(BaseException):
    """A signal asked this process to end.

    Attributes:
        number: of the signal.
        go_on: how what was under way can be taken up again, where somebody knows.
    """

    number: int = signal.SIGTERM
    go_on: str = ""

    @property
    def status(self) -> int:
        """The exit status that shells and schedulers expect."""
        return 128 + self.number

    def __str__(self) -> str:
        """One line for people."""
        how = "interrupted" if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}"
        return f"{how}; {self.go_on}" if self.go_on else how


class Interrupted(Stopped, KeyboardInterrupt):
    """It was SIGINT (Ctrl-C), which evaluations and libraries know how to end on."""

    number = signal.SIGINT


_KINDS: dict[int, type[Stopped]] = {signal.SIGINT: Interrupted, signal.SIGTERM: Stopped}
_received: list[int] = []


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Stopped` in the block, or at its end; a second signal ends the process at once.

    Processes that are forked in the block are left alone: there, signals do what they do by default.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        for known in _KINDS:
            signal.signal(known, signal.SIG_DFL)
        if os.getpid() != owner:
            os.kill(os.getpid(), number)
            return
        _received.append(number)
        raise _KINDS[number]

    found: dict[int, Any] = {number: signal.getsignal(number) for number in _KINDS}
    for number, handler in found.items():
        # Whoever started us may have said that a signal is none of our business, as nohup and a shell's & do.
        if handler != signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
        stop_now()
    finally:
        for number, handler in found.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def stop_now() -> None:
    """Raise the `Stopped` of a signal after which somebody ended in good order and returned, as an evaluation does."""
    if _received:
        raise _KINDS[_received[0]]


def stopped_by(error: BaseException) -> Stopped | None:
    """The signal behind an exception, where there is one.

    Lightning makes a SystemExit of each: with status 1 after a KeyboardInterrupt, without any after SIGTERM.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, Stopped):
            return found
        if isinstance(found, KeyboardInterrupt):
            return Interrupted()
        if type(found).__name__ == "SIGTERMException":
            return Stopped()
        found = (found.__cause__ or found.__context__) if isinstance(found, SystemExit) else None
    return None


@contextmanager
def way_to_go_on(known: Callable[[], str]) -> Iterator[None]:
    """Let a `Stopped` that leaves the block tell what `known` says then, unless it has something to tell already."""
    try:
        yield
        stop_now()
    except (Stopped, KeyboardInterrupt, SystemExit) as error:
        stopped = stopped_by(error)
        if stopped is None:
            raise
        stopped.go_on = stopped.go_on or known()
        raise stopped from None


def command_for(folder: Path) -> str:
    """What to say of a folder that a verb was writing when it was stopped."""
    if (folder / "checkpoints" / "last.ckpt").is_file():
        return f"go on with: {pasteable('train', f'resume={folder}')}"
    if (folder / "verdicts.jsonl").is_file():
        return f"go on with: {pasteable('evaluate', f'resume={folder}')}"
    return "there is nothing to take up: give the same command again"
