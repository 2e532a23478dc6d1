"""Work on files that somebody may have damaged, in a process of its own: some end the reader instead of raising."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from robustml.errors import RequestError


class Died(Exception):
    """The process ended before its work did."""


def apart(work: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """What `work` gives, item by item, from a forked process; in this one where the system cannot fork.

    Args:
        work: gives what JSON can hold, and changes nothing.

    Raises:
        RequestError: as `work` does.
        Died: the process did, by a signal or for want of memory.
    """
    if not hasattr(os, "fork"):
        yield from work()
        return
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # of the threads here that are not there: what is called there waits for none of them
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        os.close(reader)
        _answer(work, writer)
    os.close(writer)
    ended = False
    try:
        with open(reader, encoding="ascii") as answers:
            for line in answers:
                kind, item = json.loads(line)
                if kind == "refused":
                    raise RequestError(item)
                if ended := kind == "end":
                    break
                yield item
    finally:
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    if not ended:
        raise Died(f"reading it ends the reader ({os.waitstatus_to_exitcode(status)})")


def _answer(work: Callable[[], Iterable[Any]], writer: int) -> None:
    """Be the process: write a line an item, and end without a word on the terminal, however it ends."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with open(writer, "w", encoding="ascii") as answers:
            try:
                for item in work():
                    answers.write(json.dumps(["item", item]) + "\n")
                answers.write('["end", null]\n')
            except RequestError as error:
                answers.write(json.dumps(["refused", str(error)]) + "\n")
    finally:
        os._exit(0)
