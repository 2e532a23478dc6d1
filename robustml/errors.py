"""The two ways a command fails on purpose: a wrong request (exit 2) and a failed run (exit 1)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["RequestError", "RunFailed", "nearest"]


class RequestError(ValueError):
    """The request was wrong: one line that says what was expected, what arrived, and how to mend it."""


class RunFailed(RuntimeError):
    """The run itself failed: one line that says what happened, and where."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint to append to an "unknown name" message: the closest known names, or all of them.

    Returns:
        A sentence such as ``did you mean 'pgd'?``, starting in lower case, without a leading space.
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    return "known: " + ", ".join(known)
