"""How far long loops are: whoever runs one says so here, and whoever started the work decides whether it is shown.

Nothing is shown unless `shown()` is entered, as every verb of the command line does: a notebook stays quiet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from operator import length_hint
from typing import Any, TypeVar

from robustml.say import is_first_process, say

Item = TypeVar("Item")

_SHOWN: ContextVar[_Bars | None] = ContextVar("shown", default=None)


def track(items: Iterable[Item], what: str, result: Callable[[], str] | None = None) -> Iterator[Item]:
    """The items, one by one, while people see how many are done and how much time is left.

    Args:
        items: what is looped over; how long it will take is known where its length is.
        what: what the loop does, in a word or a few.
        result: called after the last item: what came of the loop, for the one line that is left of it.
    """
    bars = _SHOWN.get()
    if bars is None:
        yield from items
        return
    began = time.monotonic()
    advance, end = bars.begin(what, length_hint(items))
    try:
        for item in items:
            yield item
            advance()
    finally:
        end()
    say(f"  {what}: {f'{result()}, ' if result else ''}{time.monotonic() - began:.1f} s")


@contextmanager
def shown() -> Iterator[None]:
    """Show the progress of whatever runs inside: bars where a terminal is, and one line for each loop that ends."""
    token = _SHOWN.set(_Bars())
    try:
        yield
    finally:
        _SHOWN.reset(token)


class _Bars:
    """The bars of the loops that are under way, one below the other; there is no display while there is none."""

    def __init__(self) -> None:
        self._display: Any = None
        self._open = 0

    def begin(self, what: str, total: int) -> tuple[Callable[[], None], Callable[[], None]]:
        """Two functions: an item is done; the loop has ended."""
        if not sys.stdout.isatty() or not is_first_process():
            return (lambda: None), (lambda: None)
        # Start-up: a verb that loops over nothing needs no rich.
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._display is None:
            name = TextColumn("{task.description}", markup=False)
            self._display = Progress(name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True)
            self._display.start()
        display = self._display
        task = display.add_task(what, total=total or None)
        self._open += 1

        def end() -> None:
            display.remove_task(task)
            self._open -= 1
            if not self._open:
                with suppress(OSError):  # the terminal has gone
                    display.stop()
                self._display = None

        return (lambda: display.advance(task)), end
