"""How a verb starts and ends: Hydra composes its config, and every failure becomes one line and an exit status."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from robustml.commands.arguments import check_arguments
from robustml.commands.collect import collect_runs
from robustml.commands.settings import numbered
from robustml.commands.signals import Stopped, command_for, stoppable, stopped_by, way_to_go_on
from robustml.commands.words import literal_paths
from robustml.config import config_dir
from robustml.errors import RequestError, RunFailed, nearest, printable
from robustml.ranks import is_first_process

__all__ = ["allow_arguments", "argument", "hydra_command", "report_failures"]

# Keys that no config has: arguments of other libraries, and class names, which a set mostly brings itself.
_PARAMS = re.compile(r"([\w.]+\.params\.\w+|data\.class_names)=")


def argument(name: str) -> str | None:
    """The value of the last `name=...` on the command line, needed before Hydra composes; None where it is absent."""
    prefix = f"{name}="
    given = [word.removeprefix(prefix) for word in sys.argv[1:] if word.startswith(prefix)]
    if given and len(given[-1]) > 1 and given[-1][0] == given[-1][-1] and given[-1][0] in "'\"":
        return given[-1][1:-1]  # quoted for Hydra by somebody who knows it
    return given[-1] if given else None


def allow_arguments(words: list[str]) -> list[str]:
    """The command line as Hydra reads it.

    `attack.params.c=1` becomes `++attack.params.c=1`, for torchattacks' arguments are in no config, and paths are
    quoted.
    """
    sweeping = any(word in ("-m", "--multirun") for word in words)
    return ["++" + word if _PARAMS.match(word) else word for word in literal_paths(words, sweeping=sweeping)]


def hydra_command(task: Callable[[DictConfig], object], config_name: str) -> None:
    """Compose `config_name`, run `task` once, or once a job of a multirun, and exit.

    Args:
        task: gets the composed config; what it returns is what an optimising sweeper of Hydra gets of the job.
        config_name: the entry point in the config folder, without `.yaml`.
    """
    sys.argv = [sys.argv[0], *allow_arguments(sys.argv[1:])]
    # Hydra would print the exception itself, in several lines, and exit with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # a `_target_` that it cannot find gets our one line

    failures: list[Exception] = []

    def cleaning(config: DictConfig) -> object:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            check_arguments(numbered(OmegaConf.to_container(config, resolve=True)))
            with way_to_go_on(lambda: _to_go_on(folder)):
                return task(config)
        except Stopped:
            _remove_if_empty(folder)
            raise
        except Exception as error:
            _remove_if_empty(folder)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # Hydra then says which job it was, and goes on with the next
            failures.append(error)
            return None

    def run() -> None:
        try:
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(cleaning)()
        finally:
            collect_runs()
        if failures:
            raise failures[0]

    report_failures(run, config_name)


def report_failures(main: Callable[[], object], config_name: str | None = None) -> None:
    """Call `main`; print a failure as one line and exit with its status (2 wrong request, 1 failed run).

    Where the failure was not foreseen, the line names the error and the place; with ``ROBUSTML_TRACEBACK=1`` the whole
    traceback is printed.
    """
    try:
        with stoppable():
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
        if isinstance(error, (HydraException, OmegaConfBaseException)) or str(error).startswith("Config group"):
            _fail(_explain(error, config_name), 2)
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
            print("error: " + " ".join(printable(message).split()), file=sys.stderr)
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


def _to_go_on(folder: Path) -> str:
    """How the job that was writing `folder` can be taken up again."""
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return command_for(folder)
    return f"{command_for(folder)}; this was job {HydraConfig.get().job.num}, and those after it were not begun"


def _remove_if_empty(folder: Path) -> None:
    """Take back the output folder that Hydra made before the request was found to be wrong."""
    for candidate in (folder, *folder.parents):
        if candidate.resolve() == Path.cwd() or not candidate.is_dir() or any(candidate.iterdir()):
            return
        candidate.rmdir()


def _explain(error: Exception, config_name: str | None) -> str:
    """Hydra's and OmegaConf's errors in one line, with the nearest name."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
        # Hydra lists no options where the name stood in a list.
        options = error.options or _options(group)
        return f"there is no config {name!r} in {group or 'the config folder'}; {nearest(name, options)}"
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: {first}"
    if config_name and (key := _quoted(first)) and first.startswith("Could not override"):
        known = set(_known_names(config_name))
        if key in known:
            if "is not in struct" in str(error.__cause__):
                return f"the options chosen here have no key {key!r}; it belongs to another option of its group"
            return f"{first} {error.__cause__ or 'The value does not fit.'}"
        chosen = known.union(_known_names(config_name, _choices(sys.argv[1:])))
        group = key.partition(".")[0]
        if group != key and _options(group) and not any(name.startswith(f"{group}.") for name in chosen):
            options = ", ".join(sorted(_options(group)))
            return f"there is no config key {key!r} before an option of {group} is chosen; known: {options}"
        return f"there is no config key or group {key!r}; {nearest(key, _siblings(key, chosen))}"
    if first.startswith("Config group"):
        return "a config group cannot be set to null; name one of its options, such as scheduler=none"
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key} has no value yet: add {error.full_key}=..."
    if first.startswith("Error in call to target") or first.startswith("Error locating target"):
        return f"{first} {error.__cause__ or ''}"
    return first


def _quoted(text: str) -> str | None:
    parts = text.split("'")
    return parts[1] if len(parts) > 2 else None


def _siblings(key: str, known: set[str]) -> set[str]:
    """The known names beside `key`; where there are none, like names as deep, or those at the top."""
    parent, depth = key.rpartition(".")[0], key.count(".")
    beside = {name for name in known if name.rpartition(".")[0] == parent}
    alike = difflib.get_close_matches(key, [name for name in known if name.count(".") == depth], n=2, cutoff=0.7)
    return beside or set(alike) or {name for name in known if "." not in name}


def _options(group: str) -> list[str]:
    return [path.stem for path in (config_dir() / group).glob("*.yaml")]


def _choices(words: Sequence[str]) -> list[str]:
    """Those of the words that choose options of groups, such as ``poison=badnets``."""
    return [word for word in words if (group := word.partition("=")[0]) and (config_dir() / group).is_dir()]


def _known_names(config_name: str, choices: Sequence[str] = ()) -> Iterator[str]:
    """Every group and every dotted key of the entry point's config, with the options chosen."""
    folder = config_dir()
    yield from (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir())
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            config = hydra.compose(config_name, overrides=list(choices))
    except (HydraException, OmegaConfBaseException):
        return
    yield from _dotted(OmegaConf.to_container(config, resolve=False))


def _dotted(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _dotted(value, f"{prefix}{key}.")
