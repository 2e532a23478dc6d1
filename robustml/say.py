"""What is told to people: once, by the first of several processes, and fit for a terminal."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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


_HUSHED = ContextVar("hushed", default=False)


def say(text: str, *, always: bool = False) -> None:
    """Print lines, once in a run of several processes, and without what a class name could make a terminal do.

    Args:
        text: the lines; in a terminal they are broken between words, where they are longer than it is wide.
        always: also where a job is `hushed`.
    """
    if not is_first_process() or (_HUSHED.get() and not always):
        return
    lines = [printable(line) for line in text.split("\n")]
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        wrap = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        # A path that fills the line stays beside its name.
        short = [max(map(len, line.split()), default=0) < 0.7 * width < width < len(line) for line in lines]
        lines = [part for line, cut in zip(lines, short, strict=True) for part in (wrap.wrap(line) if cut else [line])]
    print("\n".join(lines), flush=True)


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
