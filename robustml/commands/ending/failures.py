"""How a verb ends: every failure becomes one line and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from robustml.commands.ending.signals import Stopped, stoppable, stopped_by
from robustml.errors import RequestError, RunFailed, printable
from robustml.progress import shown
from robustml.say import fitted_lines, is_first_process


def report_failures(main: Callable[[], object], config_name: str | None = None) -> None:
    """Call `main`; print a failure as one line and exit with its status (2 wrong request, 1 failed run).

    Where the failure was not foreseen, the line names the error and the place; with ``ROBUSTML_TRACEBACK=1`` the whole
    traceback is printed.

    Args:
        main: what to call.
        config_name: the entry point whose keys are suggested for one that is misspelt.
    """
    try:
        with stoppable(), shown():
            main()
            sys.stdout.flush()
    except (Stopped, KeyboardInterrupt, SystemExit) as error:
        if (stopped := stopped_by(error)) is None:
            raise
        _fail(str(stopped), stopped.status)
    except BrokenPipeError:
        # Whoever read the output (head, a pager) has left; Python must not flush into the pipe on its way out.
        _drop_output()
        sys.exit(1)
    except Exception as error:
        if (wrong := _find(error, RequestError)) is not None:
            _fail(str(wrong), 2)
        if (failed := _find(error, RunFailed)) is not None:
            _fail(str(failed), 1)
        # A ValueError where a group is set to null.
        if type(error).__module__.startswith(("hydra", "omegaconf")) or str(error).startswith("Config group"):
            # Verbs without a config do without Hydra, which takes a third of a second to import.
            from robustml.commands.hydra.explaining import explain

            _fail(explain(error, config_name), 2)
        if os.environ.get("ROBUSTML_TRACEBACK"):
            traceback.print_exc()
        _fail(_unforeseen(error), 1)


def _unforeseen(error: Exception) -> str:
    """One line about an error that nobody expected: what the system says of a file, or the error and its place."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename is not None else "")
    if isinstance(error, MemoryError):
        return "there is not enough memory: smaller batches (data.batch_size, evaluation.batch_size) need less"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    said = str(error).strip()
    return f"{type(error).__name__}{': ' + said if said else ''}{place}; ROBUSTML_TRACEBACK=1 shows the way there"


def _drop_output() -> None:
    """Whatever is still to be written to stdout goes nowhere: its reader has left, or its disk is full."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> None:
    # The other processes of a DDP run fail for the same reason: one line is enough.
    if is_first_process():
        with suppress(OSError):  # nowhere is left to say it; the status does
            line = "error: " + " ".join(printable(message).split())
            print("\n".join(fitted_lines([line], sys.stderr)), file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    sys.exit(status)


def _find(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    """The first exception of a kind among `error` and its causes (Hydra wraps what a constructor raises)."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error
