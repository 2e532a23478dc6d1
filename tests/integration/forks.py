"""Run the command in a process of its own without importing torch each time.

The processes are forked from a server that has imported everything and computed nothing: they start in milliseconds,
share no state with the tests or with each other, and can be killed like any other. Tests whose point is the start of
a program (exit status of the script, imports, DDP, the wheel) use `start` instead, which pays for the imports. Where
nothing is set, broken or killed, `command` needs no process at all.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

import torch

__all__ = ["CLI", "Outcome", "background", "call", "command", "inside", "start"]

CLI = Path(sys.executable).with_name("robustml")
PRELOAD = [
    "pytest",
    "matplotlib.pyplot",
    "pandas",
    "robustml.commands.hydra.entry",
    "robustml.workflows.training.completing",
    "robustml.workflows.measuring.judging",
    "robustml.reporting.figures.charts",
    "scipy.stats",
    "sklearn.datasets",
    "torch._dynamo",
    "torchattacks",
]
# What a developer's shell may hold, and a test must not see.
FOREIGN = ("ROBUSTML_DATA", "WANDB_MODE", "WANDB_DIR", "WANDB_API_KEY", "PL_GLOBAL_SEED", "LOCAL_RANK", "COLUMNS")

multiprocessing.set_forkserver_preload(PRELOAD)
_server = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Outcome:
    """How a process ended (negative status: by that signal) and what it said."""

    status: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        """The run directory that the last line names."""
        assert self.status in (0, 3), f"exit {self.status}\n{self.out}\n{self.err}"
        last = self.out.splitlines()[-1]
        assert last.startswith("run: "), last
        return Path(last.removeprefix("run: "))

    @property
    def error(self) -> str:
        """The one line that a refused request leaves on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"exit {self.status}, expected one line on stderr:\n{self.err}\n{self.out}"
        assert lines[0].startswith("error: "), self.err
        return lines[0]


def command(
    *words: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    apart: bool = False,
    drawn: bool = False,
) -> Outcome:
    """`robustml <words>` in this process (`inside`), or in a forked one where there is more to it.

    Args:
        words: the command line.
        cwd: the working directory.
        env: environment variables to set.
        before: called in a forked process first, to break something on purpose; a function of a module.
        apart: fork in any case: the command imports modules of the working directory, or ends by a signal.
        drawn: draw the charts of its pages (`undrawn`).
    """
    if before is None and not apart:
        return inside(*words, cwd=cwd, env=env, drawn=drawn)
    return call(_command, [str(word) for word in words], before, drawn, cwd=cwd, env=env)


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Charts are built, but not drawn, which is a third of the time of a short run: an empty picture takes their place.

    tests/reporting draws every kind of chart; the commands whose page is the point draw theirs (`drawn=True`).
    """
    from matplotlib.figure import Figure

    def savefig(figure: Figure, file: IO[Any], **options: Any) -> None:
        if options["format"] == "svg":
            file.write('<svg viewBox="0 0 8 8" xmlns="http://www.w3.org/2000/svg"></svg>')
        else:
            real(figure, file, **options)

    real = Figure.savefig
    Figure.savefig = savefig
    try:
        yield
    finally:
        Figure.savefig = real


def inside(*words: object, cwd: Path, env: Mapping[str, str] | None = None, drawn: bool = False) -> Outcome:
    """`robustml <words>` in this process, which has all imports and has used them."""
    from robustml.cli import main

    out, err, status = io.StringIO(), io.StringIO(), 0
    argv, path, environment = sys.argv, list(sys.path), dict(os.environ)
    sys.argv = [str(CLI), *map(str, words)]
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name in FOREIGN:
            os.environ.pop(name, None)
        os.environ.update(env or {})
        try:
            with warnings.catch_warnings(), contextlib.nullcontext() if drawn else undrawn():
                warnings.simplefilter("default")
                warnings.filterwarnings("ignore", ".*found in sys.modules")  # it finds the verb imported already
                main()
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            sys.argv, sys.path[:] = argv, path
            os.environ.clear()
            os.environ.update(environment)
    return Outcome(status, out.getvalue(), err.getvalue())


def call(
    function: Callable[..., object], *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> Outcome:
    """A function of a module in a forked process."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _server.Process(target=_enter, args=(out, err, cwd, dict(env or {}), function, arguments))
        process.start()
        process.join()
        assert process.exitcode is not None
        return Outcome(process.exitcode, out.read_text(), err.read_text())


def background(*words: object, out: Path, err: Path, cwd: Path) -> BaseProcess:
    """`robustml <words>` in a forked process that goes on by itself, and says what it has to say into two files."""
    task = (_command, ([str(word) for word in words], None, False))
    process = _server.Process(target=_enter, args=(out, err, cwd, {}, *task))
    process.start()
    return process


def start(*words: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The installed script itself, as a shell would start it."""
    return subprocess.Popen(
        [str(CLI), *map(str, words)],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key not in FOREIGN} | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a started script."""
    out, err = process.communicate()
    return Outcome(process.returncode, out, err)


def _enter(
    out: Path,
    err: Path,
    cwd: Path,
    env: Mapping[str, str],
    function: Callable[..., object],
    arguments: Sequence[object],
) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(cwd)
    # Two threads on these small tensors mostly wait for each other.
    torch.set_num_threads(1)
    for name in FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(env)
    try:
        function(*arguments)
    finally:
        # Processes of multiprocessing leave without them; programs do not.
        atexit._run_exitfuncs()


def _command(words: Sequence[str], before: Callable[[], None] | None, drawn: bool) -> None:
    from robustml.cli import main

    sys.argv = [str(CLI), *words]
    if before is not None:
        before()
    with contextlib.nullcontext() if drawn else undrawn():
        main()
