"""What is told to people: once, by the first of several processes, and fit for a terminal."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from robustml.errors import printable


def is_first_process() -> bool:
    """Whether the global rank is 0: the one process that writes and speaks, by its environment.

    Launchers say so in different words. torchrun, MPI and the like set the global RANK. Lightning starts the processes
    of a machine itself, with LOCAL_RANK in all but the first, and NODE_RANK where the user names the machine. Slurm
    numbers its tasks in SLURM_PROCID, which its interactive shells hand down to processes that others number; so it
    comes last, as it does in Lightning.
    """
    if (rank := os.environ.get("RANK")) is not None:
        return rank == "0"
    own = [os.environ[name] for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK") if name in os.environ]
    if own:
        return all(rank == "0" for rank in own)
    return os.environ.get("SLURM_PROCID", os.environ.get("JSM_NAMESPACE_RANK", "0")) == "0"


# "  name    what it does", "  key: value     # what it is"
_BESIDE = re.compile(r" *\S(?: ?\S)* {2,}(?:# )?| *\S+: [^#]*# ")
_HUSHED = ContextVar("hushed", default=False)


def say(text: str, *, always: bool = False) -> None:
    """Print lines, once in a run of several processes, and without what a class name could make a terminal do.

    Args:
        text: the lines; in a terminal they are broken between words, where they are longer than it is wide.
        always: also where a job is `hushed`.
    """
    if not is_first_process() or (_HUSHED.get() and not always):
        return
    print("\n".join(fitted_lines(map(printable, text.split("\n")), sys.stdout)), flush=True)


def fitted_lines(lines: Iterable[str], stream: TextIO) -> Iterator[str]:
    """The lines; broken between words where they go to a terminal that is narrower.

    They go on below the text that stands beside a name. What cannot be broken, such as a path, is a line of its own, or
    stays beside its name where the line says nothing else.
    """
    width = shutil.get_terminal_size().columns
    for line in lines:
        words = line.split()
        if not (stream.isatty() and len(words) > 2 and len(line) > width):
            yield line
            continue
        column = _BESIDE.match(line)
        room = column.end() if column and column.end() < width / 2 else len(line) - len(line.lstrip()) + 2
        indent = " " * min(room, max(0, width - max(map(len, words))))
        yield from textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


@contextmanager
def hushed() -> Iterator[None]:
    """Say nothing in the block but what is said `always`: of many jobs, what came of each follows in one table."""
    token = _HUSHED.set(True)
    try:
        yield
    finally:
        _HUSHED.reset(token)


@contextmanager
def without_notices() -> Iterator[None]:
    """Silence Lightning's notices about hardware and workers in the block; errors and our own warnings stay."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for module in ("pytorch_lightning", "lightning_fabric", "torch.distributed", "torchmetrics"):
            warnings.filterwarnings("ignore", module=module)
        # Lightning steps the schedule once after the optimizer's first step, in an order that torch cannot see.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
