"""Verbs of two words, such as `robustml data verify`: each second word is a module of the verb's folder."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping

from robustml.commands.ending.failures import report_failures
from robustml.errors import RequestError, nearest
from robustml.say import fitted_lines


def second_word(verb: str, known: Mapping[str, str]) -> None:
    """Take the second word off the command line and run its module as the main program.

    Args:
        verb: the first word, which is a folder of `robustml.commands`; or the first two, of a folder in that.
        known: for each second word what it does and, after a colon, an example; one with a hyphen lies in a module with
            an underscore.
    """
    word = sys.argv[1] if len(sys.argv) > 1 else None
    if word in ("--help", "-h", "help"):
        width = max(map(len, known)) + 2
        said = {name: what.partition(": ") for name, what in known.items()}
        lines = [
            f"robustml {verb} <word> ...",
            "",
            *(f"  {name:<{width}}{what}" for name, (what, _, _) in said.items()),
        ]
        lines += ["", "examples:", *(f"  {example}" for _, _, example in said.values())]
        print("\n".join(fitted_lines([*lines, "", f"`robustml {verb} <word> --help` says more."], sys.stdout)))
        return
    report_failures(lambda: _refuse(verb, word, known))
    assert word is not None
    del sys.argv[1]
    module = f"{verb}.{word}".replace(" ", ".").replace("-", "_")
    runpy.run_module(f"robustml.commands.{module}", run_name="__main__", alter_sys=True)


def _refuse(verb: str, word: str | None, known: Mapping[str, str]) -> None:
    if word is None or "=" in word:
        raise RequestError(f"robustml {verb} wants a word more, one of {', '.join(known)}")
    if word not in known:
        raise RequestError(f"robustml {verb} has no {word!r}; {nearest(word, known)}")
