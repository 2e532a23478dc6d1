"""Places: folders, buckets and whatever else fsspec has, each asked in a thread of its own with a deadline."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from robustml.errors import RequestError, printable
from robustml.integrity.protection.erasure import MOST_PLACES
from robustml.integrity.protection.stores import Store, store_of

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

_FULL = re.compile(
    r"InsufficientStorage|QuotaExceeded|StorageFull|StorageExceeded|\b507\b|No space left", re.IGNORECASE
)


class PlaceFailed(Exception):
    """Why a place did not do what it was asked to, in a few words."""


class Place:
    """One place.

    Args:
        url: of a folder or bucket, for fsspec; a path where it has no scheme.
        timeout: seconds after which an answer is not waited for any more.

    Attributes:
        shown: the URL without what may be secret in it.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.shown, self.timeout = _without_secrets(url), timeout
        self.store: Store = store_of(url, self.shown, timeout)
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __str__(self) -> str:
        return self.shown

    def ask(self, call: Callable[Asked, Answer], *args: Asked.args, **kwargs: Asked.kwargs) -> Future[Answer]:
        """Have `call` run in the thread of the place, after what was asked before."""
        if self._thread is None:
            # A daemon: one that hangs in a dead network drive does not keep the program from ending.
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        future: Future[Answer] = Future()
        self._jobs.put((future, lambda: call(*args, **kwargs)))
        return future

    def answer(self, future: Future[Answer]) -> Answer:
        """What came of it.

        Raises:
            PlaceFailed: it failed, or there is no answer in time.
        """
        try:
            return future.result(self.timeout)
        except TimeoutError as error:
            raise PlaceFailed(f"slow: no answer in {self.timeout:g} s") from error
        except Exception as error:
            raise PlaceFailed(_reason(error)) from error

    def close(self) -> None:
        """Let the thread end."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            try:
                future.set_result(call())
            except BaseException as error:  # whatever it is, it belongs to whoever asked
                future.set_exception(error)


@contextmanager
def places_of(urls: Sequence[str], timeout: float) -> Iterator[list[Place]]:
    """The places of these URLs, in order.

    Raises:
        RequestError: there are none, or too many, one stands there twice, or fsspec does not know it.
    """
    if not 1 <= len(urls) <= MOST_PLACES:
        raise RequestError(f"expected 1 to {MOST_PLACES} places, got {len(urls)}: places=[a,b,c]")
    if timeout <= 0:
        raise RequestError(f"timeout must be above 0 seconds, got {timeout:g}")
    places = [Place(url, timeout) for url in urls]
    known: dict[str, Place] = {}
    for place in places:
        if (other := known.setdefault(place.store.identity, place)) is not place:
            raise RequestError(f"{other} and {place} are the same place: each shard needs one of its own")
    try:
        yield places
    finally:
        for place in places:
            place.close()


def everywhere(places: Sequence[Place], call: Callable[[Place], Answer]) -> list[Answer | PlaceFailed]:
    """What `call` gives for each place, asked all at once; or why it failed there."""
    asked = [(place, place.ask(call, place)) for place in places]
    answers: list[Answer | PlaceFailed] = []
    for place, future in asked:
        try:
            answers.append(place.answer(future))
        except PlaceFailed as failure:
            answers.append(failure)
    return answers


def holds(place: Place, path: Path) -> bool:
    """Whether a local file lies in a place."""
    return bool(place.store.folder) and path.resolve().is_relative_to(Path(place.store.folder or "").resolve())


def _reason(error: Exception) -> str:
    said = " ".join(printable(str(error)).split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"full: {error.strerror}"
    if isinstance(error, FileExistsError):
        return "taken: somebody else protects the set just now"
    if isinstance(error, FileNotFoundError):
        return "lost"
    if isinstance(error, OSError) and error.strerror:
        return f"down: {error.strerror}"
    said = said if len(said) <= 160 else f"{said[:157]}..."
    return f"{'full' if _FULL.search(str(error)) else 'down'}: {said or type(error).__name__}"


def _without_secrets(url: str) -> str:
    if "://" not in url:
        return printable(url)
    parts = urlsplit(url)
    told = [(name, _without_secrets(value)) for name, value in parse_qsl(parts.query) if name in ("endpoint", "region")]
    query = "&".join("=".join(pair) for pair in told)
    return printable(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, "")))
