"""What workflows tell the audit log that the environment names; nothing where it names none.

ROBUSTML_AUDIT_LOG=<file> and ROBUSTML_AUDIT_KEY=<folder of robustml keys new>.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from robustml.errors import RequestError, RunFailed, printable
from robustml.say import is_first_process, say

if TYPE_CHECKING:
    from robustml.integrity.audit_log import Read

LOG, KEY = "ROBUSTML_AUDIT_LOG", "ROBUSTML_AUDIT_KEY"

Given = ParamSpec("Given")
Made = TypeVar("Made")


@dataclass
class Told:
    """What the entry will say once the work is done.

    Attributes:
        files: what the work was done to, or made; those that are there get their digests into the entry.
        subjects: what else has a digest: for each name ``sha256:<hex>``.
        facts: what else is to be known; nothing secret.
    """

    files: list[Path] = field(default_factory=list)
    subjects: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str | int | bool] = field(default_factory=dict)


@contextmanager
def audited(what: str, *files: Path, **facts: str | int | bool) -> Iterator[Told]:
    """Do the work of the block, and note it in the audit log, if the environment names one.

    A log that cannot be written is an error before the work starts. Work that failed is noted, too, with `failed`; a
    wrong request is not, since nothing was done.

    Args:
        what: what is done, as a participle: signed, trained.
        files: of the entry; the block may add to them.
        facts: of the entry; the block may add to them.

    Raises:
        RequestError: a log is named without a key, or the key cannot be used.
        RunFailed: the log cannot be written, or is shorter than it was.
    """
    told = Told(list(files), {}, dict(facts))
    if not os.environ.get(LOG) or not is_first_process():
        yield told
        return
    from robustml.files import sha256
    from robustml.integrity.audit_log import append, check_end, head_of
    from robustml.integrity.keys import read_private
    from robustml.integrity.seen import remember_head
    from robustml.integrity.trust import TRUST

    log, key = Path(os.environ[LOG]), os.environ.get(KEY, "")
    if not key:
        raise RequestError(f"{LOG} names a log, and {KEY} no key to sign it with: a folder of robustml keys new")
    private = read_private(Path(key))
    store = Path(key) if (Path(key) / TRUST).is_file() else None
    check_end(log, store)

    def note() -> None:
        digests = {str(path): sha256(path) for path in told.files if path.is_file()}
        entry = append(log, private, what, told.subjects | digests, told.facts)
        if store is not None:
            remember_head(store, entry.log, head_of(entry, log))

    try:
        yield told
    except RunFailed as error:
        told.facts["failed"] = printable(str(error))[:500]
        note()
        raise
    note()


def audits(
    what: str, into: str, files: Sequence[str | Path] = ()
) -> Callable[[Callable[Given, Made]], Callable[Given, Made]]:
    """Note every call of a workflow in the audit log, as `audited` does.

    Args:
        what: what it does, as a participle.
        into: the name of its argument that says where it writes.
        files: those in there that tell what it made; none where `into` is a file itself.
    """

    def decorate(work: Callable[Given, Made]) -> Callable[Given, Made]:
        @wraps(work)
        def noting(*args: Given.args, **kwargs: Given.kwargs) -> Made:
            place = Path(str(inspect.signature(work).bind(*args, **kwargs).arguments[into]))
            made = [place / name for name in files] if files else [place]
            with audited(what, *made, into=str(place)):
                return work(*args, **kwargs)

        return noting

    return decorate


def verify_audit_log(log: Path, trust: Path, head: str | None = None, *, show: int = 0) -> Read:
    """Check every entry of an audit log, its order and its end, and say who signed how many.

    Args:
        log: the file.
        trust: a trust store; it remembers how far the log had come.
        head: the digest of an entry that it must have.
        show: so many of the last entries are said.

    Raises:
        RequestError: no such log or store, or `head` is no digest.
        Untrusted: names the first bad entry: edited, removed, out of order, inserted, torn, or cut off at the end.
    """
    from robustml.integrity.audit_log import head_of, verify_log
    from robustml.integrity.seen import remember_head
    from robustml.integrity.trust import read_trust

    store = read_trust(trust)
    read = verify_log(log, store, head, show)
    for entry, signer in read.latest:
        subjects = "".join(f"\n  {name} {digest}" for name, digest in entry.subjects.items())
        facts = "".join(f", {name} {value}" for name, value in entry.facts.items())
        told = f"{entry.sequence}  {entry.time[:10]} {entry.time[11:19]}  {signer}: {entry.what}{facts}{subjects}"
        say(re.sub("(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1...", told))
    if read.head is None:
        say(f"{log} is empty")
        return read
    remember_head(store.folder, read.head.log, head_of(read.head, log))
    by = ", ".join(f"{name} ({count})" for name, count in read.signers.items())
    say(f"whole: {read.entries} entries of log {read.head.log}, by {by}\nhead: sha256:{read.head.digest}")
    return read
