from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustml.data import Csv, Digits, ImageFolder, ParquetImages, Records, Source, cached
from robustml.data.cache import cache_directory, entry_of
from robustml.data.splits import Split

from .tiny import png


@dataclass(frozen=True)
class Counted:
    """A source of one file that counts how often it was read."""

    path: str
    arrays: Records = field(repr=False)
    loads: list[str] = field(default_factory=list, repr=False)
    size: int = 4

    def files(self, split: str) -> tuple[Path, ...]:
        return (Path(self.path),)

    def load(self, split: str) -> Records:
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


# a decoded set never outlives its files


def pictures(root: Path, names: dict[str, int]) -> str:
    """One flat grey picture a name, of the given shade: all files are of one size."""
    for name, shade in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(np.full((4, 4), shade, np.uint8)))
        os.utime(root / name, ns=(10**18, 10**18))
    return str(root)


def shades(source: Source, split: Split = "train") -> dict[str, list[int]]:
    """What the cache gives, as shades by the name of their class."""
    arrays = cached(source, split)
    assert arrays.fingerprint() == source.load(split).fingerprint()
    assert arrays.understood == source.load(split).understood
    return {
        name: sorted(arrays.x[arrays.y == label, 0, 0, 0].tolist()) for label, name in enumerate(arrays.class_names)
    }


def rewritten(path: Path, shade: int) -> None:
    """The same inode, of the same size and time, with another picture in it."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(png(np.full((4, 4), shade, np.uint8)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (status.st_size, status.st_ino)


def swapped(one: Path, other: Path) -> None:
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


SET = {"cat/0.png": 10, "cat/1.png": 20, "dog/0.png": 30, "dog/1.png": 40}


def a_class_more(root: Path) -> dict[str, list[int]]:
    (root / "bird").mkdir()
    return {"bird": [], "cat": [10, 20], "dog": [30, 40]}


def classes_swapped(root: Path) -> dict[str, list[int]]:
    swapped(root / "cat", root / "dog")
    return {"cat": [30, 40], "dog": [10, 20]}


def a_class_renamed(root: Path) -> dict[str, list[int]]:
    (root / "cat").rename(root / "cow")
    return {"cow": [10, 20], "dog": [30, 40]}


def files_swapped(root: Path) -> dict[str, list[int]]:
    swapped(root / "cat" / "0.png", root / "dog" / "0.png")
    return {"cat": [20, 30], "dog": [10, 40]}


def a_file_rewritten(root: Path) -> dict[str, list[int]]:
    rewritten(root / "cat" / "0.png", 50)
    return {"cat": [20, 50], "dog": [30, 40]}


def a_file_replaced(root: Path) -> dict[str, list[int]]:
    pictures(root, {"cat/new.png": 60})
    (root / "cat" / "new.png").replace(root / "cat" / "0.png")
    return {"cat": [20, 60], "dog": [30, 40]}


def a_file_gone(root: Path) -> dict[str, list[int]]:
    (root / "cat" / "0.png").unlink()
    return {"cat": [20], "dog": [30, 40]}


def a_link_turned(root: Path) -> dict[str, list[int]]:
    pictures(root.parent, {"elsewhere.png": 70})
    (root / "cat" / "0.png").unlink()
    (root / "cat" / "0.png").symlink_to(root.parent / "elsewhere.png")
    return {"cat": [20, 70], "dog": [30, 40]}


def a_file_of_no_picture(root: Path) -> dict[str, list[int]]:
    (root / "cat" / "2.heic").write_bytes(b"x")
    return {"cat": [10, 20], "dog": [30, 40]}


CHANGES = [
    a_class_more,
    classes_swapped,
    a_class_renamed,
    files_swapped,
    a_file_rewritten,
    a_file_replaced,
    a_file_gone,
    a_link_turned,
    a_file_of_no_picture,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_read_anew(tmp_path, change):
    root = tmp_path / "set"
    source = ImageFolder(pictures(root, SET), str(root))
    assert shades(source) == {"cat": [10, 20], "dog": [30, 40]}
    expected = change(root)
    assert shades(source) == expected


def test_a_class_more_in_the_training_part_alone(tmp_path):
    train, test = pictures(tmp_path / "train", SET), pictures(tmp_path / "test", SET)
    source = ImageFolder(train, test)
    assert list(shades(source, "test")) == ["cat", "dog"]
    pictures(tmp_path / "train", {"ant/0.png": 1})
    assert shades(source, "test") == {"ant": [], "cat": [10, 20], "dog": [30, 40]}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("change", [files_swapped, a_file_rewritten, a_file_replaced, a_link_turned])
def test_pictures_behind_a_table_of_paths(tmp_path, kind, change):
    root = tmp_path / "set"
    pictures(root, SET)
    paths, labels = [str(root / name) for name in SET], [name.partition("/")[0] for name in SET]
    path = str(tmp_path / f"a.{kind}")
    if kind == "csv":
        pd.DataFrame({"image": paths, "label": labels}).to_csv(path, index=False)
        source: Source = Csv(path, path, image="image")
    else:
        images = pa.array(
            [{"bytes": None, "path": each} for each in paths], pa.struct({"bytes": "binary", "path": "string"})
        )
        pq.write_table(pa.table({"image": images, "label": labels}), path)
        source = ParquetImages(path, path)
    assert shades(source) == {"cat": [10, 20], "dog": [30, 40]}
    expected = change(root)
    assert shades(source) == expected


@pytest.mark.parametrize("option", [{"size": [2, 2]}, {"channels": 3}, {"background": "black"}, {"test": None}])
def test_every_option_is_another_entry(tmp_path, option):
    root = pictures(tmp_path / "set", SET)
    source = ImageFolder(root, root)
    assert entry_of(source, "train") != entry_of(replace(source, **option), "train")


def test_files_that_change_while_they_are_read_are_not_kept(source, monkeypatch):
    def load(self: Counted, split: str) -> Records:
        Path(self.path).write_bytes(b"changed")
        return self.arrays

    monkeypatch.setattr(Counted, "load", load)
    cached(source, "train")
    assert not list(cache_directory().glob("*.safetensors"))


def test_other_versions_of_the_decoders_are_another_entry(source, monkeypatch):
    before = entry_of(source, "train")
    monkeypatch.setattr("robustml.data.cache.version", lambda name: "1.1.7")
    assert entry_of(source, "train") != before
