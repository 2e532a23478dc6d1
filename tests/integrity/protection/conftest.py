"""A small set in six places, four of which suffice."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import pytest

from robustml.integrity.protection import Protected, Restored, protect, protecting, restore

NEED, NAMES = 4, "abcdef"
CONTENT = {
    "train.parquet": np.random.default_rng(1).bytes(9_001),
    "cat/1.png": b"\x89PNG",
    "cat/2.png": np.random.default_rng(2).bytes(4_096),
    "nothing": b"",
    "ünï/z": b"z" * 700,
}


@dataclass
class Kept:
    """A protected set."""

    root: Path
    places: list[str]
    key: Path
    content: dict[str, bytes] = field(default_factory=lambda: dict(CONTENT))

    def protect(self, need: int = NEED, **options: object) -> Protected:
        return protect(written(self.root / "set", self.content), self.places, need, self.key, **options)  # type: ignore[arg-type]

    def restore(self, out: str | None = "out", **options: object) -> Restored:
        return restore(self.places, self.key, None if out is None else self.root / out, **options)  # type: ignore[arg-type]

    def lie(self, place: int, ending: str, change: Callable[[bytes], bytes] | None) -> None:
        """Change the file with that ending in a place; None removes it."""
        files, root = fsspec.core.url_to_fs(self.places[place])
        (path,) = [path for path in files.ls(root, detail=False) if path.endswith(ending)]
        content = files.cat_file(path)
        files.rm_file(path)
        if change is not None:
            files.pipe_file(path, change(content))

    def lose(self, place: int) -> None:
        files, root = fsspec.core.url_to_fs(self.places[place])
        files.rm(root, recursive=True)

    def alter(self, place: int) -> None:
        self.lie(place, ".shard", flip)

    def states(self) -> list[dict[str, bytes]]:
        """All that lies in each place."""
        states = []
        for place in self.places:
            files, root = fsspec.core.url_to_fs(place)
            found = files.find(root) if files.exists(root) else []
            states.append({path.rpartition("/")[2]: files.cat_file(path) for path in found})
        return states

    def shards(self) -> list[list[bytes]]:
        """The shards in each place, whatever they are called."""
        return [[state[name] for name in sorted(state) if name.endswith(".shard")] for state in self.states()]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def written(folder: Path, content: dict[str, bytes]) -> dict[str, Path]:
    for name, value in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)
    return {name: folder / name for name in content}


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a small set has several stripes."""
    monkeypatch.setattr(protecting, "_CHUNK", 512)


@pytest.fixture
def kept(tmp_path: Path, small_chunks: None) -> Kept:
    """Protected in six folders."""
    found = Kept(tmp_path, [str(tmp_path / name) for name in NAMES], tmp_path / "keys")
    found.protect()
    return found


@contextmanager
def kept_in_memory(root: Path) -> Iterator[Kept]:
    name = uuid.uuid4().hex
    found = Kept(root, [f"memory://{name}/{letter}" for letter in NAMES], root / "keys")
    found.protect()
    try:
        yield found
    finally:
        fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


@pytest.fixture
def in_memory(tmp_path: Path, small_chunks: None) -> Iterator[Kept]:
    """Protected in six places that need no disk."""
    with kept_in_memory(tmp_path) as found:
        yield found
