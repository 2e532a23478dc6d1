"""Decoded sets kept between runs: checked on read, replaced whole, and never in the way of a run."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from stat import S_ISDIR
from typing import Protocol, runtime_checkable

import torch
from safetensors.torch import load, save

from robustml.data.records import Records
from robustml.data.splits import Split
from robustml.data.understood import Understood
from robustml.errors import RunFailed
from robustml.files import write_bytes, write_text

_FORMAT = 3  # raise it when decoding changes what comes out of the same files
# What decodes and parses: another version of these may read the same file in another way.
_READERS = ("numpy", "pandas", "pillow", "pyarrow", "scikit-learn")
# Longer than a tick of the clock of a file system: two changes within one tick have the same time.
_TICK = 0.02


class Source(Protocol):
    """Where a set comes from."""

    def load(self, split: Split) -> Records:
        """Read and decode one part of the set."""
        ...


@runtime_checkable
class FileSource(Source, Protocol):
    """A source that can tell what its content depends on, so that its decoded form may be cached."""

    def files(self, split: Split) -> tuple[Path, ...] | None:
        """What `split` is read from, or None where nothing pins the content; none at all for a pinned remote set.

        Folders too, where their names or their number decide on the classes, in the order in which they count.
        """
        ...


def cache_directory() -> Path:
    """Where decoded sets are kept: `ROBUSTML_CACHE`, or ``~/.cache/robustml``."""
    return Path(os.environ.get("ROBUSTML_CACHE") or Path.home() / ".cache" / "robustml")


def cached(source: Source, split: Split) -> Records:
    """Load one part of `source`, from the cache where it holds it unharmed, else from the source.

    An entry is keyed by the source's arguments, by the versions of what decodes, and by the name, size, times and inode
    of every file and the name and inode of every folder: a file that was changed, replaced, moved to another class or
    restored with its old date is another one. Damage means a rebuild, and a cache that cannot be written a warning.

    Raises:
        RequestError: where the source itself cannot be read.
    """
    entry = entry_of(source, split)
    if entry is None:
        return source.load(split)
    records = _read(entry)
    if records is None:
        records = source.load(split)
        if entry_of(source, split) == entry:  # else the files were changed while they were read
            _write(entry, records)
    return records


def entry_of(source: Source, split: Split) -> Path | None:
    """Where the decoded form of one part is kept, be it there or not; None for a source that is not cached."""
    files = source.files(split) if isinstance(source, FileSource) else None
    if files is None:
        return None
    try:
        return cache_directory() / f"{_key(source, split, files)}.safetensors"
    except FileNotFoundError:  # the source has the better words for a missing file
        return None


def _key(source: Source, split: Split, files: tuple[Path, ...]) -> str:
    readers = " ".join(f"{name}-{version(name)}" for name in _READERS)
    digest = hashlib.sha256(f"{_FORMAT} {readers} {type(source).__module__}.{source!r} {split}".encode())
    changed = 0
    for path in files:
        status = path.stat()
        # The path as it was named, since that decides on the class, and the inode, which tells what a link leads to.
        seen = f"\n{path.absolute()} {status.st_ino}"
        if not S_ISDIR(status.st_mode):  # a folder is changed by whatever lies about in it
            changed = max(changed, status.st_ctime_ns)
            seen += f" {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        digest.update(seen.encode(errors="surrogateescape"))
    # A file that has just been written is read once the clock has moved on, so that a change after this one is seen.
    time.sleep(min(max(changed / 1e9 + _TICK - time.time(), 0), _TICK))
    return digest.hexdigest()


def _read(entry: Path) -> Records | None:
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
    names, understood = (bytes(tensors[key].numpy()).decode() for key in ("class_names", "understood"))
    return Records(
        tensors["x"], tensors["y"], tuple(json.loads(names)), Understood.from_json(understood), tensors["ids"]
    )


def _write(entry: Path, records: Records) -> None:
    texts = {"class_names": json.dumps(records.class_names), "understood": records.understood.to_json()}
    kept = {name: torch.tensor(list(text.encode()), dtype=torch.uint8) for name, text in texts.items()}
    content = save({"x": records.x.contiguous(), "y": records.y, "ids": records.ids, **kept})
    try:
        write_bytes(entry, content)
        # in the format of sha256sum; between the two replacements the pair does not match, and is rebuilt if read
        write_text(entry.with_suffix(".sha256"), f"{hashlib.sha256(content).hexdigest()}  {entry.name}\n")
    except RunFailed as error:
        warnings.warn(
            f"the decoded set was not cached ({error}); set ROBUSTML_CACHE to a writable folder", stacklevel=3
        )
