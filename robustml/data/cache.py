"""Decoded sets kept between runs: checked on read, replaced whole, and never in the way of a run."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors.torch import load, save

from robustml.data.arrays import Arrays
from robustml.data.splits import Split
from robustml.errors import RunFailed
from robustml.files import write_bytes, write_text

__all__ = ["FileSource", "Source", "cache_directory", "cached"]

_FORMAT = 1  # raise it when decoding changes what comes out of the same files


class Source(Protocol):
    """Where a set comes from."""

    def load(self, split: Split) -> Arrays:
        """Read and decode one part of the set."""
        ...


@runtime_checkable
class FileSource(Source, Protocol):
    """A source that can tell what its content depends on, so that its decoded form may be cached."""

    def files(self, split: Split) -> tuple[Path, ...] | None:
        """The files behind `split` (may be none for a pinned remote set), or None where nothing pins the content."""
        ...


def cache_directory() -> Path:
    """Where decoded sets are kept: `ROBUSTML_CACHE`, or ``~/.cache/robustml``."""
    return Path(os.environ.get("ROBUSTML_CACHE") or Path.home() / ".cache" / "robustml")


def cached(source: Source, split: Split) -> Arrays:
    """Load one part of `source`, from the cache where it holds it unharmed, else from the source.

    An entry is keyed by the source's arguments and by the path, size and modification time of its files. Damage means
    a rebuild, and a cache that cannot be written means a warning.

    Raises:
        RequestError: where the source itself cannot be read.
    """
    files = source.files(split) if isinstance(source, FileSource) else None
    if files is None:
        return source.load(split)
    try:
        entry = cache_directory() / f"{_key(source, split, files)}.safetensors"
    except FileNotFoundError:  # the source has the better words for a missing file
        return source.load(split)
    arrays = _read(entry)
    if arrays is None:
        arrays = source.load(split)
        _write(entry, arrays)
    return arrays


def _key(source: Source, split: Split, files: tuple[Path, ...]) -> str:
    described = [str(_FORMAT), f"{type(source).__module__}.{source!r}", split]
    for path in files:
        status = path.stat()
        described.append(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(described).encode()).hexdigest()


def _read(entry: Path) -> Arrays | None:
    """The cached set, or None where it is absent, torn or altered."""
    try:
        # read once, so that what was checked is what is used even if another process replaces the file meanwhile
        content = entry.read_bytes()
        digest, _, _ = entry.with_suffix(".sha256").read_text(encoding="ascii").partition(" ")
    except (OSError, UnicodeDecodeError):
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        return None
    tensors = load(content)
    return Arrays(tensors["x"], tensors["y"], tuple(json.loads(bytes(tensors["class_names"].tolist()))))


def _write(entry: Path, arrays: Arrays) -> None:
    names = torch.tensor(list(json.dumps(arrays.class_names).encode()), dtype=torch.uint8)
    content = save({"x": arrays.x.contiguous(), "y": arrays.y, "class_names": names})
    try:
        write_bytes(entry, content)
        # in the format of sha256sum; between the two replacements the pair does not match, and is rebuilt if read
        write_text(entry.with_suffix(".sha256"), f"{hashlib.sha256(content).hexdigest()}  {entry.name}\n")
    except RunFailed as error:
        warnings.warn(
            f"the decoded set was not cached ({error}); set ROBUSTML_CACHE to a writable folder", stacklevel=3
        )
