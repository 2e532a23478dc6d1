"""What a trust store remembers: the newest manifest of each series, and how far each audit log had come (seen.json).

Without it an older manifest and a log that was cut off would be as well signed as the newest ones.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from robustml.errors import RequestError, RunFailed, printable
from robustml.files import read_text
from robustml.integrity.strict_json import strict_json
from robustml.results.reading import checked, write_checked
from robustml.say import say

SEEN = "seen.json"
_LARGEST = 2**22

Content = TypeVar("Content", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Head(_Strict):
    """How far an audit log had come.

    Attributes:
        entries: how many it had.
        digest: SHA-256 of the line of the last, in hex.
        place: where it lay.
    """

    entries: Annotated[int, Field(ge=1)]
    digest: str
    place: str


class Seen(_Strict):
    """seen.json: the highest serial by series, and the head by log."""

    schema_: Literal["robustml/seen/1"] = Field(default="robustml/seen/1", alias="schema")
    series: dict[str, Annotated[int, Field(ge=0)]] = {}
    logs: dict[str, Head] = {}


def read_seen(folder: Path) -> Seen:
    """What a store remembers; nothing where it has seen nothing yet.

    Raises:
        RequestError: seen.json is damaged.
    """
    path = folder / SEEN
    return read_strictly(Seen, path) if path.exists() else Seen()


def remember(folder: Path, change: Callable[[Seen], None]) -> None:
    """Change what a store remembers; where it cannot be written, say so."""
    try:
        with locked(folder):
            change(seen := read_seen(folder))
            write_checked(seen, folder / SEEN)
    except RunFailed as error:
        say(f"not remembered: {printable(str(error))}; an older manifest or a shorter log will not be noticed here")


def remember_head(folder: Path, log: str, head: Head) -> None:
    """Remember how far an audit log has come, unless it was seen further."""

    def lengthen(seen: Seen) -> None:
        if (known := seen.logs.get(log)) is None or known.entries <= head.entries:
            seen.logs[log] = head

    if read_seen(folder).logs.get(log) != head:
        remember(folder, lengthen)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time changes a store; the others wait for their turn.

    Raises:
        RunFailed: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise RunFailed(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def read_strictly(model: type[Content], path: Path) -> Content:
    """A JSON file as a model, of which every reader makes the same.

    Raises:
        RequestError: it cannot be read, or is not valid.
    """
    text = read_text(path, _LARGEST)
    try:
        content = strict_json(text)
    except ValueError as error:
        raise RequestError(f"{path} is not valid: {' '.join(str(error).split())}") from error
    return checked(model, content, str(path))
