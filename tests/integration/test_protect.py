"""`robustml data protect` and `restore`: sets with files and without, manifests, one file of a set, wrong requests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from data.tiny import noise, png

from integration.forks import command
from robustml.data import Digits, ImageFolder, ParquetImages
from robustml.errors import RequestError
from robustml.workflows.integrity.protect import set_files
from robustml.workflows.integrity.restore import heal_files

PLACES = "places=[a,b c,d,e,f,g]"


def digests(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_digits_are_protected_as_parquet_that_data_parquet_reads(tmp_path: Path) -> None:
    made = command("data", "protect", PLACES, "need=4", "key=keys", cwd=tmp_path)
    assert (made.status, made.err) == (0, "")
    assert "places:    6, any 4 of which suffice: 2 may be lost, or lie" in made.out
    assert "key:       keys/data.key was made: keep it" in made.out
    shutil.rmtree(tmp_path / "a")
    flip(next((tmp_path / "b c").glob("*.shard")))
    done = command("data", "restore", PLACES, "key=keys", "out=back", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    for line in (
        "place:    a: lost (healed)",
        "place:    b c: altered in stripe 1 of 1 (healed)",
        "restored: digits, version 1: 2 files written, 0 intact",
    ):
        assert line in done.out.splitlines()
    for part in ("train", "test"):
        source = ParquetImages(*(str(tmp_path / f"back/{name}.parquet") for name in ("train", "test")))
        assert source.load(part).fingerprint() == Digits().load(part).fingerprint()
    assert "places:   all are good" in command("data", "restore", PLACES, "key=keys", cwd=tmp_path).out
    for place in "adg":
        shutil.rmtree(tmp_path / place)
    before = digests(tmp_path)
    refused = command("data", "restore", PLACES, "key=keys", "out=no", cwd=tmp_path)
    assert refused.status == 1
    assert (
        "3 of its 6 shards are good, and 4 are needed (a: lost; d: lost; g: lost); nothing was changed" in refused.error
    )
    assert digests(tmp_path) == before


def test_a_folder_of_pictures_with_its_manifest_and_one_file_of_it(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number in range(12):
        path = photos / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(noise(1, 4, 4, seed=number)[0]))
    (photos / "cow").mkdir()
    data = ("data=image_folder", "data.source.train=photos")
    assert command("data", "manifest", *data, "out=m", cwd=tmp_path).status == 0
    made = command("data", "protect", *data, PLACES, "need=3", "key=k.key", "manifest=m", cwd=tmp_path)
    assert (made.status, made.err) == (0, "")
    (tmp_path / "elsewhere").mkdir()
    words = (PLACES, "key=k.key", "out=elsewhere/back", "manifest=elsewhere/m")
    assert command("data", "restore", *words, cwd=tmp_path).status == 0
    assert digests(tmp_path / "elsewhere/back") == {f"photos/{name}": value for name, value in digests(photos).items()}
    assert (tmp_path / "elsewhere/back/photos/cow").is_dir()
    assert digests(tmp_path / "elsewhere/m") == digests(tmp_path / "m")
    only = command("data", "restore", PLACES, "key=k.key", "out=only", cwd=tmp_path)
    assert "note:     its manifest was protected, too: manifest=<folder> restores it" in only.out

    whole = digests(photos)
    found = set_files(ImageFolder(str(photos)))
    assert found is not None
    assert found.top == tmp_path
    flip(photos / "cat/1.png")
    flip(photos / "dog/2.png")
    places = [str(tmp_path / name) for name in ("a", "b c", "d", "e", "f", "g")]
    healed = heal_files([photos / "cat/1.png"], found.top, places, tmp_path / "k.key")
    assert healed.files == (photos / "cat/1.png",)
    assert {name for name, value in digests(photos).items() if value != whole[name]} == {"dog/2.png"}
    for path, said in ((photos / "cat/13.png", "was protected without"), (Path("/etc/hosts"), "is not in the subpath")):
        with pytest.raises(RequestError, match=said):
            heal_files([path], found.top, places, tmp_path / "k.key")


def test_wrong_requests_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,label\n" + "".join(f"{row},{row % 2}\n" for row in range(20)))
    data = ("data=csv", "data.source.train=t.csv", "key=keys")
    for words, said in (
        (("places=[a,b]", "need=3"), "need=3 of 2 places: expected 1 to 2"),
        (("places=[a,./a]", "need=1"), "a and ./a are the same place"),
        (("places=[a,b]", "need=1", "manifest=none"), "there is no manifest none"),
        (("places=a", "need=1"), "places must be a list, got 'a'"),
        (("places=[a,b]",), "need has no value yet"),
        (("places=[a,b]", "need=1", "timeout=0"), "timeout must be above 0"),
        (("places=[a,b]", "need=1", "key=a"), "the key a/data.key would lie in the place a"),
    ):
        refused = command("data", "protect", *data, *words, cwd=tmp_path)
        assert (refused.status, said in refused.error) == (2, True), refused.error
    refused = command("data", "restore", "places=[a,b]", "key=keys", cwd=tmp_path)
    assert (refused.status, "there is no data key keys/data.key" in refused.error) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
