"""Digests of many files: the interpreter is free while SHA-256 runs, so that two threads do twice the work of one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from robustml.errors import RequestError
from robustml.files import sha256

_THREADS = 2


def hash_files(paths: Sequence[Path]) -> list[str | RequestError]:
    """The digest of each file, ``sha256:<hex>``, in order; of one that cannot be read, why."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str | RequestError:
    try:
        return sha256(path)
    except RequestError as error:
        return error
    except OSError as error:
        return RequestError(f"cannot read {path}: {error.strerror or error}")
