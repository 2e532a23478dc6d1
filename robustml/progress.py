"""How far long loops are: whoever runs one says so here, and whoever started the work decides whether it is shown.

Nothing is shown unless `shown()` is entered, as every verb of the command line does: a notebook stays quiet.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from operator import length_hint
from typing import Any, TypeVar

from robustml.say import is_first_process, say

Item = TypeVar("Item")

_SHOWN: ContextVar[_Bars | Callable[[str], object] | None] = ContextVar("shown", default=None)
# A log is told of a loop that goes on for so many seconds, and again after as many.
_SILENCE = 15.0


def track(items: Iterable[Item], what: str, result: Callable[[], str] | None = None) -> Generator[Item, None, None]:
    """The items, one by one, while people see how many are done and how much time is left.

    Args:
        items: what is looped over; how long it will take is known where its length is.
        what: what the loop does, in a word or a few.
        result: called after the last item: what came of the loop, for the one line that is left of it.
    """
    bars = _SHOWN.get()
    if not isinstance(bars, _Bars):
        yield from items
        return
    loop = bars.begin(what, length_hint(items))
    try:
        for item in items:
            yield item
            loop.done += 1
            bars.refresh(loop)
    finally:
        bars.end(loop)
    say(f"  {what}: {f'{result()}, ' if result else ''}{time.monotonic() - loop.began:.1f} s")


def note(what: str) -> None:
    """What the innermost loop is doing just now, such as the member of an ensemble that has its turn."""
    bars = _SHOWN.get()
    if isinstance(bars, _Bars):
        bars.note(what)
    elif bars is not None:
        bars(what)


@contextmanager
def shown(noted: Callable[[str], object] | None = None) -> Iterator[None]:
    """Show the progress of whatever runs inside: bars where a terminal is, and one line for each loop that ends.

    Args:
        noted: instead, hand notes to this, and show nothing: for a process that works for another.
    """
    token = _SHOWN.set(noted or _Bars())
    try:
        yield
    finally:
        _SHOWN.reset(token)


class _Loop:
    """A loop that is under way."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.began = what, total, time.monotonic()
        self.done, self.note = 0, ""
        self.bar: Any = None
        self.ended = threading.Event()

    def tell(self, open_loops: list[_Loop]) -> None:
        """A line for a log, every so often until the loop ends, while it is the innermost."""
        while not self.ended.wait(_SILENCE):
            if open_loops[-1:] != [self]:
                continue
            passed = time.monotonic() - self.began
            left = f", {passed / self.done * (self.total - self.done):.0f} s left" if self.done and self.total else ""
            note = f" ({self.note})" if self.note else ""
            say(f"  {self.what}{note}: {self.done} of {self.total or 'some'} after {passed:.0f} s{left}")


class _Bars:
    """The bars of the loops that are under way, one below the other; there is no display while there is none."""

    def __init__(self) -> None:
        self._display: Any = None
        self._open: list[_Loop] = []

    def begin(self, what: str, total: int) -> _Loop:
        """Show a loop."""
        loop = _Loop(what, total)
        self._open.append(loop)
        if not is_first_process():
            return loop
        if not sys.stdout.isatty():
            threading.Thread(target=loop.tell, args=[self._open], daemon=True).start()
            return loop
        # Start-up: a verb that loops over nothing needs no rich.
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        if self._display is None:
            # What is too long for the line is cut, not what says how far the loop is.
            name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=2))
            bar, left = BarColumn(None, table_column=Column(ratio=1)), TimeRemainingColumn(elapsed_when_finished=True)
            self._display = Progress(name, bar, MofNCompleteColumn(), left, transient=True, expand=True)
            self._display.start()
        loop.bar = self._display.add_task(what, total=total or None)
        return loop

    def refresh(self, loop: _Loop) -> None:
        """An item is done, or something else begins."""
        if loop.bar is not None:
            name = f"{loop.what}: {loop.note}" if loop.note else loop.what
            self._display.update(loop.bar, completed=loop.done, description=name)

    def note(self, what: str) -> None:
        """See the function of that name."""
        if self._open:
            self._open[-1].note = what
            self.refresh(self._open[-1])

    def end(self, loop: _Loop) -> None:
        """Take a loop away."""
        loop.ended.set()
        self._open.remove(loop)
        if loop.bar is not None:
            self._display.remove_task(loop.bar)
            if not any(other.bar is not None for other in self._open):
                with suppress(OSError):  # the terminal has gone
                    self._display.stop()
                self._display = None
