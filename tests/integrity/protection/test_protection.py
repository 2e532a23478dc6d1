"""Protected sets: restored bit-identical from any few places, healed, or refused with nothing changed."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

import pytest

from integrity.protection.conftest import CONTENT, NAMES, NEED, Kept, flip, tree
from robustml.errors import RequestError, RunFailed
from robustml.integrity.protection import protect, restore

GOOD, LOST, ALTERED = range(3)
PATTERNS = list(itertools.product((GOOD, LOST, ALTERED), repeat=len(NAMES)))


def check_pattern(kept: Kept, pattern: tuple[int, ...], number: int) -> None:
    whole = kept.shards()
    for place, state in enumerate(pattern):
        if state != GOOD:
            (kept.lose if state == LOST else kept.alter)(place)
    before, out = kept.states(), f"out{number}"
    bad = sum(state != GOOD for state in pattern)
    if bad <= len(NAMES) - NEED:
        restored = kept.restore(out)
        assert tree(kept.root / out) == CONTENT
        assert restored.healed == tuple(url for url, state in zip(kept.places, pattern, strict=True) if state)
        assert kept.shards() == whole
    else:
        with pytest.raises(RunFailed, match=r"nothing was changed|none of the places"):
            kept.restore(out)
        assert kept.states() == before
        assert not [*kept.root.glob(out), *kept.root.glob(f".{out}.*")]


@pytest.mark.parametrize("bad", range(4))
def test_every_pattern_of_up_to_three_bad_places(in_memory: Kept, bad: int) -> None:
    """Those of three: every set of places, with one pattern of what is wrong; the rest is in the slow test."""
    for number, pattern in enumerate(PATTERNS):
        if len(NAMES) - pattern.count(GOOD) == bad and (bad < 3 or pattern.count(LOST) in (0, 3)):
            if bad == 3:
                in_memory.protect()
            check_pattern(in_memory, pattern, number)


@pytest.mark.slow
def test_every_pattern_of_lost_and_altered_places(in_memory: Kept) -> None:
    for number, pattern in enumerate(PATTERNS):
        in_memory.protect()
        check_pattern(in_memory, pattern, number)


def test_a_few_good_chunks_of_each_shard_suffice(kept: Kept) -> None:
    """Every place lies somewhere, no more than two of them in one stripe."""
    size, chunk = len(kept.shards()[0][0]), 512 + 16
    for place in range(6):
        at = place // 2 * chunk + 3
        assert at < size
        kept.lie(place, ".shard", lambda content, at=at: content[:at] + flip(content[at : at + 1]) + content[at + 1 :])
    restored = kept.restore()
    assert tree(kept.root / "out") == CONTENT
    assert sorted(restored.wrong.values()) == [f"altered in stripe {stripe} of 7" for stripe in (1, 1, 2, 2, 3, 3)]
    assert len(restored.healed) == 6
    assert kept.restore("again").wrong == {}


@pytest.mark.parametrize(
    ("ending", "change", "said"),
    [
        (".shard", lambda content: content[:-1], "altered: 3"),
        (".shard", lambda content: content + b"x", "altered: 3"),
        (".shard", lambda _: b"", "altered: 0"),
        (".shard", None, "lost"),
        (".head", flip, "altered"),
        (".head", lambda content: content[:40], "altered"),
        (".head", lambda _: b"", "altered"),
        (".head", None, "lost"),
    ],
)
def test_a_lying_place_is_located_and_healed(kept: Kept, ending: str, change, said: str) -> None:
    whole = kept.shards()
    kept.lie(2, ending, change)
    restored = kept.restore()
    assert list(restored.wrong) == [kept.places[2]] == list(restored.healed)
    assert restored.wrong[kept.places[2]].startswith(said)
    assert tree(kept.root / "out") == CONTENT
    assert kept.shards() == whole
    assert kept.restore(None).wrong == {}


def test_shards_of_other_places_sets_and_versions_are_refused(kept: Kept) -> None:
    first = kept.states()
    kept.content["train.parquet"] = b"another"
    assert kept.protect().version == 2
    other = Kept(kept.root, [f"{place}-other" for place in kept.places], kept.key, {"x": b"x"})
    other.protect(name="other")

    def put(place: int, files: dict[str, bytes]) -> None:
        kept.lose(place)
        Path(kept.places[place]).mkdir()
        for name, content in files.items():
            (Path(kept.places[place]) / name).write_bytes(content)

    second, others = kept.states(), other.states()
    for files, said in (
        (first[3], "has version 1 of the set, not 2"),
        (second[4], "has the shard of place 5"),
        (others[3], "has a shard of another set, 'other'"),
    ):
        put(3, files)
        restored = kept.restore()
        assert restored.wrong == {kept.places[3]: said}
        assert restored.healed == (kept.places[3],)
        assert tree(kept.root / "out") == kept.content
    # what the place holds of another set is somebody's only copy, perhaps
    assert others[3].items() <= kept.states()[3].items()
    for place, source in ((0, 1), (1, 0), (2, 3), (3, 2)):
        put(place, second[source])
    with pytest.raises(RunFailed, match=r"a: has the shard of place 2; .*b: has the shard of place 1; .*; nothing was"):
        kept.restore()


def test_a_replay_in_all_places_is_refused(kept: Kept) -> None:
    first = kept.states()
    kept.protect()
    for place, files in zip(kept.places, first, strict=True):
        for path in Path(place).iterdir():
            path.unlink()
        for name, content in files.items():
            (Path(place) / name).write_bytes(content)
    with pytest.raises(RunFailed, match=r"version 1 .* has seen version 2: a replay"):
        kept.restore()
    assert not (kept.root / "out").exists()
    assert kept.protect().version == 3


def test_a_new_version_takes_the_place_of_the_old_one_and_of_what_was_left_behind(kept: Kept) -> None:
    left = Path(kept.places[1]) / "robustml-00000009-00ff.shard"
    left.write_bytes(b"half")
    mine = Path(kept.places[1]) / "holiday.jpg"
    mine.write_bytes(b"mine")
    kept.content = {"new": b"new" * 5_000}
    assert kept.protect(need=2).version == 2
    assert not left.exists()
    assert mine.exists()
    mine.unlink()
    assert {len(state) for state in kept.states()} == {2}
    for place in range(4):
        kept.lose(place)
    kept.restore()
    assert tree(kept.root / "out") == kept.content


def test_restoring_into_the_set_mends_what_differs_and_touches_nothing_else(kept: Kept) -> None:
    folder = kept.root / "set"
    (folder / "train.parquet").write_bytes(b"altered")
    (folder / "mine").write_bytes(b"mine")
    (folder / "ünï/z").unlink()
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    restored = kept.restore("set")
    assert sorted(path.name for path in restored.files) == ["train.parquet", "z"]
    assert restored.intact == 3
    assert tree(folder) == CONTENT | {"mine": b"mine"}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (folder / "cat/1.png").write_bytes(b"")
    (folder / "train.parquet").write_bytes(b"")
    restored = kept.restore("set", only=["cat/1.png"], heal=False)
    assert [path.name for path in restored.files] == ["1.png"]
    assert tree(folder) == CONTENT | {"mine": b"mine", "train.parquet": b""}


def test_nothing_is_written_through_a_link(kept: Kept) -> None:
    (kept.root / "elsewhere").mkdir()
    (kept.root / "out").mkdir()
    (kept.root / "out/cat").symlink_to(kept.root / "elsewhere")
    with pytest.raises(RequestError, match="cat is refused: it is a link"):
        kept.restore()
    assert not list((kept.root / "elsewhere").iterdir())
    assert [path.name for path in (kept.root / "out").iterdir()] == ["cat"]


def test_the_key_is_its_owners_alone_and_lies_in_no_place(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    key = kept.key / "data.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    stored = b"".join(content for state in kept.states() for content in state.values())
    assert not any(content in stored for content in (CONTENT["cat/2.png"][:16], b"train.parquet", b"z" * 16))
    key.chmod(0o644)
    with pytest.raises(RequestError, match="others can use it"):
        kept.restore()
    key.chmod(0o600)
    monkeypatch.setenv("ROBUSTML_KEY_PASSPHRASE", "correct horse")
    kept.restore()  # a key without one stays one
    locked = Kept(kept.root, [f"{place}2" for place in kept.places], kept.root / "locked.key")
    locked.protect()
    assert "correct" not in locked.key.read_text()
    assert '"key"' not in locked.key.read_text()
    locked.restore("locked")
    assert tree(kept.root / "locked") == CONTENT
    monkeypatch.setenv("ROBUSTML_KEY_PASSPHRASE", "wrong horse")
    with pytest.raises(RequestError, match="does not open with the passphrase"):
        locked.restore("no")
    monkeypatch.delenv("ROBUSTML_KEY_PASSPHRASE")
    with pytest.raises(RequestError, match="set ROBUSTML_KEY_PASSPHRASE"):
        locked.restore("no")
    locked.places = kept.places
    monkeypatch.setenv("ROBUSTML_KEY_PASSPHRASE", "correct horse")
    for attempt in (locked.restore, locked.protect):
        with pytest.raises(RequestError, match="sealed with another key"):
            attempt()


def test_wrong_requests_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    places = [str(tmp_path / name) for name in "abc"]
    (tmp_path / "link").symlink_to(tmp_path / "a")
    before = sorted(tmp_path.rglob("*"))
    for options, said in (
        ({"need": 4}, "need=4 of 3 places"),
        ({"need": 0}, "need=0 of 3 places"),
        ({"places": []}, "expected 1 to 255 places, got 0"),
        ({"places": [*places, f"{tmp_path}/x/../a"]}, "are the same place"),
        ({"places": [*places, str(tmp_path / "link")]}, "are the same place"),
        ({"places": ["nonsense://a"]}, "nonsense://a is no place"),
        ({"places": ["s3://user:secret@bucket/x"]}, r"^s3://bucket/x is no place: .*in the environment$"),
        ({"places": ["s3://b/x?endpoint=http://u:pw@h/&token=pw"]}, r"^s3://b/x\?endpoint=http://h/ is no place: "),
        ({"key": tmp_path / "a"}, "would lie in the place"),
        ({"files": []}, "no file to protect"),
        ({"files": [tmp_path / "gone"]}, "cannot read .*gone: No such file"),
        ({"files": {"../file": file}}, "is refused"),
        ({"files": {"A": file, "a": file}}, "differs .* in case"),
        ({"timeout": 0.0}, "timeout must be above 0"),
    ):
        asked = {"files": [file], "places": places, "need": 2, "key": tmp_path / "keys"} | options
        with pytest.raises(RequestError, match=said):
            protect(**asked)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(RequestError, match="there is no data key"):
        restore(places, tmp_path / "keys", tmp_path / "out")
    protect([file], places, 2, tmp_path / "keys")
    with pytest.raises(RequestError, match="was protected in 3 places, 2 are named"):
        restore(places[:2], tmp_path / "keys", tmp_path / "out")
    with pytest.raises(RequestError, match="hold the set 'data': choose others"):
        protect([file], places, 2, tmp_path / "keys", name="mine")
    with pytest.raises(RequestError, match=r"without b"):
        restore(places, tmp_path / "keys", tmp_path / "out", only=["b"])
    with pytest.raises(RequestError, match=r"out=.*file is no folder"):
        restore(places, tmp_path / "keys", file)
    with pytest.raises(RunFailed, match=r"none of the places has a protected set .*x: lost"):
        restore([str(tmp_path / "x")], tmp_path / "keys", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 4 * 512 - 1, 4 * 512, 4 * 512 + 1, 8 * 512])
def test_every_size_comes_back(tmp_path: Path, small_chunks: None, size: int) -> None:
    kept = Kept(
        tmp_path, [str(tmp_path / name) for name in NAMES], tmp_path / "keys", {"x": os.urandom(size), "y": b""}
    )
    kept.protect()
    kept.lose(0)
    kept.alter(3) if size else kept.lose(3)
    kept.restore()
    assert tree(tmp_path / "out") == kept.content
