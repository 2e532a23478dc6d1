"""What a place is asked for: the few operations on files that shards need, over fsspec and over object stores."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from io import UnsupportedOperation
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from robustml.errors import RequestError

# A place that lists more is no place of ours: its names are not read to the end.
_MOST_NAMES = 100_000


class Readable(Protocol):
    """A file that is open for reading."""

    def seek(self, place: int, /) -> object:
        """Go on reading there."""
        ...

    def read(self, length: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...

    def close(self) -> object:
        """Done."""
        ...


class Writable(Protocol):
    """A file that is open for writing."""

    def write(self, content: bytes, /) -> object:
        """Append."""
        ...

    def flush(self) -> object:
        """Hand on what was written."""
        ...

    def close(self) -> object:
        """Done."""
        ...


class Store(Protocol):
    """Files in one folder, by their names.

    Attributes:
        identity: equal for two that are the same.
        folder: on this machine, or None.
    """

    identity: str
    folder: str | None

    def names(self) -> list[str]:
        """The files that lie there; none where there is no such folder."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def read(self, name: str) -> Readable:
        """A file to read and seek in."""
        ...

    def write(self, name: str) -> Writable:
        """A new file; what is half written has its name already, or none."""
        ...

    def create(self, name: str, content: bytes) -> None:
        """Write a file, unless there is one of that name.

        Raises:
            FileExistsError: there is one.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...


def store_of(url: str, shown: str, timeout: float) -> Store:
    """The store of a URL.

    Raises:
        RequestError: nothing that is installed knows its scheme.
    """
    try:
        store: Store = _Objects(url, timeout) if url.startswith("s3://") else _Files(url)
        return store
    except ModuleNotFoundError as error:
        if error.name == "obstore":
            raise RequestError(f"{shown} needs an extra: pip install 'robustml-lightning[s3]'") from error
        raise RequestError(f"{shown} needs a package that is not installed: {error}") from error
    except (ImportError, ValueError, OSError) as error:
        raise RequestError(f"{shown} is no place: {error}") from error


def write_whole(file: Writable) -> None:
    """Close a file that was written, once it is on the disk, where it is on one."""
    file.flush()
    with suppress(AttributeError, UnsupportedOperation):
        os.fsync(file.fileno())  # type: ignore[attr-defined]
    file.close()


class _Files:
    """Whatever fsspec has."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self._files, self._root = url_to_fs(url)
        local = "file" in ([self._files.protocol] if isinstance(self._files.protocol, str) else self._files.protocol)
        self.folder = str(Path(self._root).resolve()) if local else None
        self.identity: str = self.folder or self._files.unstrip_protocol(self._root.rstrip("/"))

    def names(self) -> list[str]:
        self._files.invalidate_cache(self._root)
        try:
            return [str(path).rpartition("/")[2] for path in self._files.ls(self._root, detail=False)[:_MOST_NAMES]]
        except FileNotFoundError:
            return []

    def size(self, name: str) -> int:
        self._files.invalidate_cache(self._root)
        return int(self._files.size(self._path(name)))

    def read(self, name: str) -> Readable:
        return self._files.open(self._path(name), "rb")  # type: ignore[no-any-return]  # no types

    def write(self, name: str) -> Writable:
        self._files.makedirs(self._root, exist_ok=True)
        return self._files.open(self._path(name), "wb")  # type: ignore[no-any-return]

    def create(self, name: str, content: bytes) -> None:
        self._files.makedirs(self._root, exist_ok=True)
        if self.folder is None:
            self._files.pipe_file(self._path(name), content, mode="create")
        else:
            file = self._files.open(self._path(name), "xb")
            try:
                file.write(content)
                write_whole(file)
            except OSError:  # a full disk
                with suppress(OSError):
                    file.close()
                self.remove(name)
                raise

    def remove(self, name: str) -> None:
        self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


class _Objects:
    """A bucket, or what begins with a prefix in it: ``s3://bucket/prefix``, of another provider by ``?endpoint=<URL>``.

    Credentials, region and endpoint come from the environment (``AWS_ACCESS_KEY_ID`` and so on).
    """

    folder: str | None = None

    def __init__(self, url: str, timeout: float) -> None:
        from obstore.store import S3Store

        parts = urlsplit(url)
        options: dict[str, Any] = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.username or options.keys() - {"endpoint", "region"}:
            raise ValueError("expected s3://bucket/prefix?endpoint=...&region=..., and credentials in the environment")
        self._store: Any = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            # Whoever waits gives up first, and says that the place is slow.
            client_options={"timeout": timedelta(seconds=2 * timeout), "allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=2 * timeout)},
            **options,
        )
        self.identity = f"s3://{parts.netloc}/{parts.path.strip('/')} {options.get('endpoint', '')}"

    def names(self) -> list[str]:
        found: list[str] = []
        for batch in self._store.list():
            found += [entry["path"] for entry in batch]
            if len(found) > _MOST_NAMES:
                break
        return found

    def size(self, name: str) -> int:
        return int(self._store.head(name)["size"])

    def read(self, name: str) -> Readable:
        import obstore

        return _Read(obstore.open_reader(self._store, name, buffer_size=8 * 2**20))

    def write(self, name: str) -> Writable:
        import obstore

        return obstore.open_writer(self._store, name, buffer_size=8 * 2**20)

    def create(self, name: str, content: bytes) -> None:
        from obstore.exceptions import AlreadyExistsError

        try:
            self._store.put(name, content, mode="create")
        except AlreadyExistsError as error:
            raise FileExistsError(name) from error

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._store.delete(name)


class _Read:
    """obstore's reader, whose bytes are of a kind of its own, and which forgets what it read ahead when it seeks."""

    def __init__(self, reader: Any) -> None:
        self._reader, self._place = reader, 0

    def seek(self, place: int) -> None:
        if place != self._place:
            self._reader.seek(place)
            self._place = place

    def read(self, length: int) -> bytes:
        content = bytes(self._reader.read(length))
        self._place += len(content)
        return content

    def close(self) -> None:
        self._reader.close()
