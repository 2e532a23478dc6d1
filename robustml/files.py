"""Files that are written whole or not at all, and files of others that are read with a bound and one line of complaint.

Everything that the package leaves on a disk goes through here: a reader, a kill or a full disk finds the old content or
the new, never half of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from robustml.errors import RequestError, RunFailed

_SUFFIX, _HOST = ".tmp", socket.gethostname()
# What a config or a page of results never needs: larger ones are somebody's attempt to fill the memory.
_LARGEST_TEXT = 64 * 2**20


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write into, that takes the place of `path` once the block ends without an exception.

    It lies in the same folder, which is made if absent, and is synced before it is renamed; `file.name` is its path,
    for libraries that want one. Leftovers of processes that were killed while they wrote `path` are removed.

    Raises:
        RunFailed: no space is left, or the folder cannot be written; what stood at `path` still stands.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{_HOST}-{os.getpid()}{_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        # An open mode that the umask narrows, as for any other file: a report is meant to be passed on.
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunFailed(
            f"cannot write {path}: {error.strerror or error}; "
            + ("what stood there is intact" if path.exists() else "nothing was left there")
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write `content` to `path`, whole or not at all; returns `path`.

    Raises:
        RunFailed: see `replacing`.
    """
    with replacing(path) as file:
        file.write(content)
    return path


def write_new(path: Path, content: bytes, *, mode: int = 0o666) -> Path:
    """Write a file that must not be there yet, whole or not at all; returns `path`.

    Args:
        path: its folder is made if absent.
        content: all of it.
        mode: who may do what with it, from its first byte on; narrowed by the umask.

    Raises:
        RequestError: something is there already.
        RunFailed: it cannot be written; nothing was left there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{_HOST}-{os.getpid()}{_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError as error:
        raise RequestError(f"{path} is there already, and is not written over") from error
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror or error}; nothing was left there") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` as UTF-8, whole or not at all; returns `path`.

    Raises:
        RunFailed: see `replacing`.
    """
    return write_bytes(path, text.encode())


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what processes of this machine that are gone left half written of `name`, or of any file, in `folder`."""
    for leftover in Path(folder).iterdir() if Path(folder).is_dir() else ():
        written, _, process = leftover.name.removesuffix(_SUFFIX).rpartition(f".{_HOST}-")
        target = written.removeprefix(".").rpartition(".")[0]
        if not (leftover.name.endswith(_SUFFIX) and process.isdigit()) or name not in (None, target):
            continue
        if int(process) != os.getpid() and not _lives(int(process)):
            with suppress(OSError):
                leftover.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def read_text(path: Path, largest: int = _LARGEST_TEXT) -> str:
    """The UTF-8 text of a file that somebody else may have written.

    Args:
        path: the file.
        largest: the most bytes that it may have.

    Raises:
        RequestError: it is absent, empty, too large, not UTF-8, or cannot be read.
    """
    with opened(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise RequestError(f"{path} is larger than {largest / 2**20:g} MiB, so it is none of ours")
    if not content.strip():
        raise RequestError(f"{path} is empty: whatever wrote it was interrupted, or the disk was full")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is damaged: byte {error.start} is not UTF-8") from error


def read_json(path: Path, largest: int = _LARGEST_TEXT) -> Any:
    """What a JSON file holds.

    Raises:
        RequestError: see `read_text`; or it is no JSON.
    """
    text = read_text(path, largest)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is damaged: {str(error) or 'nested too deeply'}") from error


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """An ordinary file, to be read: no pipe, which could make the reader wait for ever, and no device.

    Raises:
        RequestError: it is absent, is none, or cannot be read.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RequestError(f"cannot read {path}: it is no ordinary file")
            yield file
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def sha256(path: Path) -> str:
    """The digest of a file, as ``sha256:<hex>``.

    Raises:
        RequestError: it cannot be read.
    """
    with opened(path) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
