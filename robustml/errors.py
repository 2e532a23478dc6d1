"""The two ways a command fails on purpose (wrong request: exit 2; failed run: exit 1), and what a line may hold."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable

# What a terminal obeys instead of showing: CSI and OSC sequences and the short ones, as ECMA-48 writes them.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]"
)
# The joiners of Persian, of Indian scripts and of emoji: as invisible as the rest of their kind, but part of words.
_JOINERS = "\u200c\u200d"


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


def printable(text: str) -> str:
    """Text of somebody else's, fit for one line of a terminal, a page or a file.

    Returns:
        The text without escape sequences, control characters, marks that turn the direction of writing, and lone
        surrogates; every kind of white space is a space.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return "".join(
        letter if letter.isprintable() or letter in _JOINERS else " " if letter.isspace() else "" for letter in text
    )


def pasteable(*words: object) -> str:
    """`robustml <words>` as a line for a shell, whatever characters the paths in it have."""
    return shlex.join(["robustml", *map(str, words)])
