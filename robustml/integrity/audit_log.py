"""An audit log: who did what to which data and models, and when; each line signed, and bound to the one before it.

What a line cannot tell is that others followed it: for that heads are remembered (`robustml.integrity.seen`), or given
with `head=`.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import secrets
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from robustml.errors import RequestError, RunFailed
from robustml.files import opened
from robustml.integrity.entries import LONGEST, NOTHING, Entry, read_entry
from robustml.integrity.keys import fingerprint, sign, verifies
from robustml.integrity.seen import Head, read_seen
from robustml.integrity.trust import Trust, Untrusted
from robustml.say import say

if TYPE_CHECKING:
    from robustml.integrity.keys import Private


@dataclass(frozen=True)
class Read:
    """A log that was verified.

    Attributes:
        entries: how many it has.
        head: of the last: log, number and digest; None of an empty log.
        signers: who signed how many of them.
        latest: the last of them, each with who signed it.
    """

    entries: int
    head: Entry | None
    signers: dict[str, int]
    latest: tuple[tuple[Entry, str], ...]


def append(
    log: Path, key: Private, what: str, subjects: Mapping[str, str], facts: Mapping[str, str | int | bool]
) -> Entry:
    """Write an entry at the end of a log, under a lock and synced; a last line that was torn is cut off and named.

    Args:
        log: the file; made if absent.
        key: signs.
        what: what was done, in small letters.
        subjects: to what: for each name a digest.
        facts: what else is to be known.

    Raises:
        RunFailed: the log cannot be written, or is none; nothing was added.
    """
    with writing(log) as file:
        last, torn = _end(file, log)
        if torn:
            file.truncate(file.seek(-len(torn), os.SEEK_END))
            say(f"audit log: the last line of {log} was torn ({len(torn)} bytes); it is cut off, and an entry says so")
            found: dict[str, str | int | bool] = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
            last = _written(file, log, last, key, "recovered", {}, found)
        return _written(file, log, last, key, what, subjects, facts)


@contextmanager
def writing(log: Path) -> Iterator[IO[bytes]]:
    """The file of a log, to be appended to by one process at a time.

    Raises:
        RunFailed: it cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RunFailed(f"cannot write the audit log {log}: it is no ordinary file")
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
    except OSError as error:
        raise RunFailed(f"cannot write the audit log {log}: {error.strerror or error}") from error


def check_end(log: Path, seen: Path | None) -> None:
    """Refuse a log that could not be appended to, before anything is done that it should tell of.

    Args:
        log: the file.
        seen: a trust store that may remember how far it had come.

    Raises:
        RunFailed: it cannot be written, is none, or is shorter than it was.
    """
    with writing(log) as file:
        last, _ = _end(file, log)
    if seen is not None:
        try:
            _check_seen(log, seen, None if last is None else last.log, [] if last is None else [last])
        except Untrusted as error:
            raise RunFailed(f"nothing is added to it, and nothing was done: {error}") from error


def verify_log(log: Path, trust: Trust, head: str | None = None, latest: int = 0) -> Read:
    """Check every entry of a log, its order, and its end.

    Args:
        log: the file.
        trust: whose keys count, of those that may sign logs; remembers how far the log had come.
        head: the digest of an entry that it must have, in hex or as ``sha256:<hex>``.
        latest: how many of the last entries are wanted.

    Raises:
        RequestError: there is no such file, or `head` is no digest.
        Untrusted: names the first bad entry: edited, removed, out of order, inserted, torn, or cut off at the end.
    """
    if head is not None:
        head = head.removeprefix("sha256:").lower()
        if len(head) != 64 or not all(letter in "0123456789abcdef" for letter in head):
            raise RequestError(
                "head must be a SHA-256 in hexadecimal digits, as robustml data audit-log verify prints it"
            )
    keys = {key.signer.fingerprint: key for key in trust.keys}
    last: Entry | None = None
    kept: list[Entry] = []
    ends: deque[tuple[Entry, str]] = deque(maxlen=latest)
    signers: dict[str, int] = {}
    wanted = {each.entries for each in read_seen(trust.folder).logs.values()}
    with opened(log) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        for line in iter(lambda: file.readline(LONGEST), b""):
            number = 1 if last is None else last.sequence + 1
            try:
                entry = _next(line, last)
                if (key := keys.get(entry.by)) is None:
                    raise ValueError(f"it is by a stranger ({entry.by[:19]}); {trust.folder} trusts {trust.names}")
                if "log" not in key.may:
                    raise ValueError(f"it is by {key.signer.name}, whose key may sign {', '.join(key.may)}, and no log")
                if not verifies(key.public, entry.signed, entry.message):
                    raise ValueError(f"it was edited or forged: the key of {key.signer.name} says no")
            except ValueError as error:
                raise Untrusted(f"{log}: entry {number} is bad: {error}") from error
            last = entry
            ends.append((entry, key.signer.name))
            signers[key.signer.name] = signers.get(key.signer.name, 0) + 1
            if entry.sequence in wanted or entry.digest == head:
                kept.append(entry)
    if head is not None and all(entry.digest != head for entry in kept):
        raise Untrusted(f"{log}: no entry has the digest {head[:16]}...: it was cut off, rewritten, or is another log")
    if last is not None:
        kept.append(last)
    _check_seen(log, trust.folder, None if last is None else last.log, kept)
    return Read(0 if last is None else last.sequence, last, signers, tuple(ends))


def head_of(entry: Entry, log: Path) -> Head:
    """What is to be remembered of the last entry of a log."""
    return Head(entries=entry.sequence, digest=entry.digest, place=str(log.absolute()))


def _check_seen(log: Path, store: Path, name: str | None, entries: list[Entry]) -> None:
    """Hold entries, the last one among them, against what a store remembers of the log and of its place."""
    last = entries[-1].sequence if entries else 0
    for known_name, known in read_seen(store).logs.items():
        there = f"{store} has seen {known.entries} entries"
        if known_name == name:
            if last < known.entries:
                raise Untrusted(f"{log}: entry {last + 1} is missing: {there}, and it was cut off after {last}")
            if any(each.sequence == known.entries and each.digest != known.digest for each in entries):
                raise Untrusted(f"{log}: entry {known.entries} is not the one that {store} has seen: it was rewritten")
        elif known.place == str(log.absolute()) and name not in read_seen(store).logs:
            what = "is empty" if name is None else "is another log"
            raise Untrusted(
                f"{log} {what}: {there} of one that lay there; if that is right, take it out of its seen.json"
            )


def _next(line: bytes, last: Entry | None) -> Entry:
    """The entry that a line holds, which must follow another.

    Raises:
        ValueError: what is wrong with it.
    """
    entry = read_entry(line)
    number = 1 if last is None else last.sequence + 1
    if last is not None and entry.log != last.log:
        raise ValueError("it belongs to another log")
    if entry.sequence > number:
        missing = f"{number}" if entry.sequence == number + 1 else f"{number} to {entry.sequence - 1}"
        raise ValueError(f"removed, or moved: number {entry.sequence} stands there, and {missing} is missing")
    if entry.sequence < number:
        raise ValueError(f"inserted, or moved: number {entry.sequence} stands there again")
    if entry.before != (NOTHING if last is None else last.digest):
        raise ValueError(
            "it does not follow the one before, which is another than it was" if last else "none was before"
        )
    return entry


def _end(file: IO[bytes], log: Path) -> tuple[Entry | None, bytes]:
    """The last whole entry of a log, and what was torn after it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2 * LONGEST))
    *lines, torn = _all(file, size - max(0, size - 2 * LONGEST)).split(b"\n")
    if len(torn) >= LONGEST:
        raise RunFailed(f"cannot write the audit log {log}: its last line is too long to be ours")
    try:
        return (read_entry(lines[-1] + b"\n") if lines else None), torn
    except ValueError as error:
        raise RunFailed(
            f"cannot write the audit log {log}: of its last line, {' '.join(str(error).split())}"
        ) from error


def _all(file: IO[bytes], size: int) -> bytes:
    content = b""
    while len(content) < size and (read := file.read(size - len(content))):
        content += read
    return content


def _written(
    file: IO[bytes],
    log: Path,
    last: Entry | None,
    key: Private,
    what: str,
    subjects: Mapping[str, str],
    facts: Mapping[str, str | int | bool],
) -> Entry:
    entry = Entry(
        log=secrets.token_hex(16) if last is None else last.log,
        sequence=1 if last is None else last.sequence + 1,
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        what=what,
        subjects=dict(subjects),
        facts=dict(facts),
        before=NOTHING if last is None else last.digest,
        by=fingerprint(key.public_key()),
    )
    entry = entry.model_copy(update={"signature": base64.b64encode(sign(key, entry.message)).decode()})
    line = entry.line + b"\n"
    if len(line) >= LONGEST:
        raise RunFailed(f"cannot write the audit log {log}: an entry of {len(line):,} bytes is too long")
    size = file.seek(0, os.SEEK_END)
    try:
        written = file.write(line)
        if written != len(line):
            raise OSError(f"{written} of {len(line)} bytes")
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise
    return entry
