"""What the user trusts beside robustml's own code: `trust=true` or `trust=my_package` on the command line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from robustml.errors import RequestError

Trust = bool | str | Sequence[str] | None
"""True for any code, modules by name, False for none; None for what the command line says."""

_VARIABLE = "ROBUSTML_TRUST"
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def take_trust(words: list[str]) -> list[str]:
    """The command line without `trust=...`, which is kept for this process and those that it starts."""
    for word in words:
        if word.startswith("trust="):
            _understood(said := word.partition("=")[2])
            os.environ[_VARIABLE] = said
    return [word for word in words if not word.startswith("trust=")]


def trusted() -> bool | tuple[str, ...]:
    """What the user said of whom he trusts: with `trust=` on the command line, or in `ROBUSTML_TRUST`."""
    return _understood(os.environ.get(_VARIABLE, ""))


def _understood(said: str) -> bool | tuple[str, ...]:
    said = said.strip()
    known = {"true": True, "false": False, "null": False, "": False}
    return known[said.lower()] if said.lower() in known else named(said)


def named(trust: Trust) -> tuple[str, ...]:
    """The modules in it.

    Raises:
        RequestError: one of them is no name of a module.
    """
    if trust is None or isinstance(trust, bool):
        return ()
    names = trust.strip("[]").split(",") if isinstance(trust, str) else list(trust)
    names = [str(name).strip() for name in names]
    for name in names:
        if not _MODULE.fullmatch(name):
            raise RequestError(f"trust={name!r}: expected true, or modules such as trust=my_package,my_models")
    return tuple(names)


def own_modules() -> None:
    """Let modules of the current folder be named; last, so that none of them takes the place of an installed one."""
    here = os.getcwd()
    if sys.path and sys.path[0] in ("", here):  # where `python -m` puts it
        del sys.path[0]
    if here not in sys.path:
        sys.path.append(here)
