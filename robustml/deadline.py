"""A moment after which no model is asked any more, whoever asks it: so that a limit of time holds within any attack.

Looked at whenever a module is called, also from within a package's attack, and inside a network before each layer; only
where a limit was set. What an attack had found until then goes up with the exception.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook


def _capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


class OutOfTime(BaseException):
    """The moment has passed. Not an `Exception`: attacks that catch all of those must not go on."""

    def __init__(self, found: Tensor | None = None) -> None:
        super().__init__(found)
        self.found = found


class Deadline:
    """So many seconds from now.

    Args:
        seconds: None is without an end.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self._began = seconds, time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether it has come."""
        return self.seconds is not None and time.monotonic() - self._began > self.seconds

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let every module that is called in the block by this thread, once the moment has come, raise `OutOfTime`."""
        if self.seconds is None:
            yield
            return
        owner = threading.get_ident()

        def look(module: Any, given: Any) -> None:
            # A graph that is being captured must be captured to its end, or the device is left in the middle of it.
            if self.passed and threading.get_ident() == owner and not _capturing():
                raise OutOfTime

        hook = register_module_forward_pre_hook(look)
        try:
            yield
        finally:
            hook.remove()


@contextmanager
def keeping(found: Callable[[], Tensor], rows: Any = None) -> Iterator[None]:
    """Hand up what an attack would return if it ended now, where it is stopped in the block: by time, or by Ctrl-C.

    Args:
        found: called then; images (N, ...).
        rows: of those, which the block works on: what it hands up itself, through a `keeping` of its own, is put there.
    """
    try:
        yield
    except (OutOfTime, KeyboardInterrupt) as stop:
        # Ctrl-C may come between two lines that belong together.
        with suppress(RuntimeError, IndexError):
            images, inner = found().detach().clone(), getattr(stop, "found", None)
            if rows is not None and inner is not None:
                images[rows] = inner
            stop.found = images  # type: ignore[union-attr]
        raise
