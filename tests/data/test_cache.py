from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from robustml.data import Arrays, Digits, cached
from robustml.data.cache import cache_directory


@dataclass(frozen=True)
class Counted:
    """A source of one file that counts how often it was read."""

    path: str
    arrays: Arrays = field(repr=False)
    loads: list[str] = field(default_factory=list, repr=False)
    size: int = 4

    def files(self, split: str) -> tuple[Path, ...]:
        return (Path(self.path),)

    def load(self, split: str) -> Arrays:
        self.loads.append(split)
        return self.arrays


@pytest.fixture
def source(toy, tmp_path) -> Counted:
    path = tmp_path / "set.bin"
    path.write_bytes(b"content")
    return Counted(str(path), toy())


def entry() -> Path:
    (path,) = cache_directory().glob("*.safetensors")
    return path


def test_second_read_comes_from_the_cache(source):
    first, second = cached(source, "train"), cached(source, "train")
    assert source.loads == ["train"]
    assert first.fingerprint() == second.fingerprint() == source.arrays.fingerprint()
    cached(source, "test")
    assert source.loads == ["train", "test"]
    assert not list(cache_directory().glob("*.tmp"))


def test_other_arguments_or_a_changed_file_are_another_entry(source):
    cached(source, "train")
    cached(Counted(source.path, source.arrays, source.loads, size=8), "train")
    assert len(source.loads) == 2
    os.utime(source.path, ns=(1, 1))
    cached(source, "train")
    assert len(source.loads) == 3


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_digest(path: Path) -> None:
    path.with_suffix(".sha256").write_bytes(b"\xff\xfe")


def damage_no_digest(path: Path) -> None:
    path.with_suffix(".sha256").unlink()


@pytest.mark.parametrize("damage", [damage_flip, damage_truncate, damage_empty, damage_digest, damage_no_digest])
def test_a_damaged_entry_is_rebuilt(source, damage):
    cached(source, "train")
    damage(entry())
    assert cached(source, "train").fingerprint() == source.arrays.fingerprint()
    assert len(source.loads) == 2
    cached(source, "train")
    assert len(source.loads) == 2, "the rebuilt entry is good again"


def test_a_cache_that_cannot_be_written_only_warns(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ROBUSTML_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="ROBUSTML_CACHE"):
        assert len(cached(source, "train")) == 50


def test_a_full_disk_only_warns_and_leaves_no_rubbish(source, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert len(cached(source, "train")) == 50
    assert not list(cache_directory().iterdir())


def test_writers_at_once_do_no_harm(source):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: cached(source, "train").fingerprint(), range(8)))
    assert set(results) == {source.arrays.fingerprint()}
    assert entry().exists()
    assert not list(cache_directory().glob("*.tmp"))


def test_embedded_sets_are_not_cached():
    cached(Digits(), "test")
    assert not cache_directory().exists()
