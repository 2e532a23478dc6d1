"""Words of the command line as Hydra is to read them: paths are taken as they are spelled."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from robustml.errors import RequestError

HELP = frozenset({"--help", "-h"})
COMPLETION = frozenset({"--shell-completion", "-sc"})
# Keys that few configs have: arguments of other libraries, class names, which a set mostly brings itself, and who
# vouches for the data.
_PARAMS = re.compile(r"([\w.]+\.params\.\w+|data\.(class_names|verify|heal|manifest|trust|places|key))=")
# Overrides that name a file, a folder or an address, whether it exists yet or not, a column, or say something in words.
_PATHS = re.compile(
    r"\+{0,2}(run|resume|out|output|victim|restore|checkpoint|surrogate|method.other|hydra\.(run|sweep)\.dir"
    r"|key|trust|store|manifest|old|new|source|licence|revision"
    r"|([\w@/]+\.)*(root|path|folder|file|dirpath|save_dir|log|exclude|manifest|trust|key)"
    r"|([\w@/]+\.)*source\.(train|test|label|image|text))"
)
# What Hydra takes for the letters of a name, whatever stands around it.
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*", re.ASCII)
_PLAIN_VALUE = re.compile(r"[\w.+-]*", re.ASCII)
_LISTED = re.compile(r"\[([^\[\]'\"]+)\]")  # without quotes: by somebody who leaves them to us
_IMPORTABLE = re.compile(r"model=([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)")
_CONSTANTS = ("null", "true", "false", "nan", "inf")


def argument(name: str) -> str | None:
    """The value of the last `name=...` on the command line, needed before Hydra composes; None where it is absent."""
    prefix = f"{name}="
    given = [word.removeprefix(prefix) for word in sys.argv[1:] if word.startswith(prefix)]
    if given and len(given[-1]) > 1 and given[-1][0] == given[-1][-1] and given[-1][0] in "'\"":
        return given[-1][1:-1]  # quoted for Hydra by somebody who knows it
    return given[-1] if given else None


def own_model(words: Sequence[str]) -> list[str]:
    """The words, with `model=my_package.MyNet` as the option and the value that it is short for."""
    pairs = ((word, _IMPORTABLE.fullmatch(word)) for word in words)
    return [
        other
        for word, found in pairs
        for other in ([word] if found is None else ["model=custom", f"model._target_={found[1]}"])
    ]


def config_folder(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """Take `--config-dir <dir>` or `--config-dir=<dir>`, a user's own configs, out of a command line.

    Raises:
        RequestError: it is no folder.
    """
    rest, own, following = [], None, False
    for word in words:
        if following:
            own, following = Path(word), False
        elif word in ("--config-dir", "-cd"):
            following = True
        elif word.startswith("--config-dir="):
            own = Path(word.partition("=")[2])
        else:
            rest.append(word)
    if following:
        raise RequestError("--config-dir needs a folder")
    if own is not None and not own.is_dir():
        raise RequestError(f"--config-dir={own} is not a folder")
    return rest, own


def allow_arguments(words: list[str]) -> list[str]:
    """The command line as Hydra reads it.

    `attack.params.c=1` becomes `++attack.params.c=1`, for torchattacks' arguments are in no config, and paths are
    quoted.
    """
    sweeping = any(word in ("-m", "--multirun") for word in words)
    return ["++" + word if _PARAMS.match(word) else word for word in literal_paths(words, sweeping=sweeping)]


def literal_paths(words: Sequence[str], *, sweeping: bool = False) -> list[str]:
    """The words with every path quoted for Hydra, whose grammar gives meaning to commas, brackets, quotes and blanks.

    A word is left alone where its value names no path, is quoted already, or holds nothing but letters that Hydra takes
    as they are. What exists in the current folder is a path, whatever key it is given for.

    Args:
        words: `key=value` overrides, and options.
        sweeping: a multirun: a value with commas that is no path itself is a list of them, as Hydra has it.
    """
    return [_literal(word, sweeping) for word in words]


def _literal(word: str, sweeping: bool) -> str:
    key, equals, value = word.partition("=")
    if not equals or not value or word.startswith("-"):
        return word
    if _PLAIN.fullmatch(value) and value.lower() not in _CONSTANTS:
        return word
    if key in ("places", "data.places") and (listed := _LISTED.fullmatch(value)):
        return f"{key}=[{','.join(_quote(each.strip()) for each in listed[1].split(','))}]"
    if _exists(value):
        # A folder that is called 1 does not make seed=1 a path.
        is_path = _PATHS.fullmatch(key) is not None or not _PLAIN_VALUE.fullmatch(value)
    else:
        is_path = _PATHS.fullmatch(key) is not None and not _of_hydra(value, sweeping)
    return f"{key}={_quote(value)}" if is_path else word


def _of_hydra(value: str, sweeping: bool) -> bool:
    """Whether a value that names nothing that exists is meant in Hydra's grammar: quoted, null, a list, a reference."""
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    listed = value[0] + value[-1] == "[]" or (sweeping and "," in value)
    return quoted or listed or value == "null" or value.startswith("${")


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name, or with a null character
        return False


def _quote(value: str) -> str:
    """The value as a quoted string of Hydra's: a backslash counts only before a quote, where it is doubled."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    # OmegaConf resolves ${...} inside strings, too, unless a backslash stands before it.
    return "'" + (escaped + "\\" * trailing).replace("${", "\\${") + "'"
