"""What a manifest says, worked out again by hand; and whatever a stranger writes in its place, refused in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustml.errors import RequestError
from robustml.integrity.manifest import PartOf, read_manifest, read_records, write_manifest
from robustml.results.integrity import ManifestFile

LETTERS = st.characters(codec="utf-8") | st.sampled_from("\0\u202e\x1b/\\.")


class Record(NamedTuple):
    row: int
    name: str
    fields: dict[str, bytes | None]


RECORDS = [Record(row, "", {"input": b"%d" % row, "label": b"ab"[row % 2 : row % 2 + 1]}) for row in range(5)]
FILE = ManifestFile(part="train", path="a/b.parquet", size=1, sha256=f"sha256:{'0' * 64}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "m"
    write_manifest(folder, {"train": PartOf(RECORDS)}, [FILE], name="x")
    return folder


def test_roots_and_digests_are_those_of_hashlib(folder):
    def sha(content: bytes) -> bytes:
        return hashlib.sha256(content).digest()

    leaves = [
        sha(b'\0["","%s",{"input":"%s"}]' % (one.fields["label"], sha(one.fields["input"]).hex().encode()))
        for one in RECORDS
    ]
    pairs = [sha(b"\1" + leaves[i] + leaves[i + 1]) for i in (0, 2)]
    root = sha(b"\1" + sha(b"\1" + pairs[0] + pairs[1]) + leaves[4])
    manifest = read_manifest(folder)
    assert manifest.parts["train"].root == f"sha256:{root.hex()}"
    assert manifest.root == f"sha256:{sha(bytes(1) + b'train' + bytes(1) + root).hex()}"
    assert manifest.parts["train"].classes == {"a": 3, "b": 2}
    rows = pq.read_table(folder / "records.parquet").to_pylist()
    assert [row["sha256.input"] for row in rows] == [sha(one.fields["input"]) for one in RECORDS]
    assert [row["leaf"] for row in rows] == leaves
    records = read_records(folder, manifest, "train")
    assert (records.leaves, records.labels) == (leaves, list("ababa"))


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", "c:/x", "a\0b", "con", "a/../b"])
def test_hostile_names_are_refused_when_made_and_when_read(folder, tmp_path, path):
    hostile = FILE.model_copy(update={"path": path})
    with pytest.raises(RequestError, match="names"):
        write_manifest(tmp_path / "n", {"train": PartOf(RECORDS)}, [hostile], name="x")
    assert not (tmp_path / "n").exists()
    said = json.loads((folder / "manifest.json").read_text())
    said["files"][0]["path"] = path
    other = shutil.copytree(folder, tmp_path / "o")
    (other / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(RequestError, match="names"):
        read_manifest(other)


def test_the_table_of_another_manifest_is_refused(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "o")
    (other / "records.parquet").write_bytes((folder / "records.parquet").read_bytes() + b"x")
    with pytest.raises(RequestError, match="is not the table"):
        read_records(other, read_manifest(other), "train")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(LETTERS, max_size=20)
VALUES: st.SearchStrategy[Any] = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=5), PLAIN)


def refused_or_read(folder: Path) -> str:
    """The one line of a refusal."""
    try:
        manifest = read_manifest(folder)
        for part in manifest.parts:
            read_records(folder, manifest, part)
    except RequestError as error:
        return str(error)
    return ""


def fuzz(folder: Path, data: st.DataObject) -> None:
    said = json.loads((folder / "manifest.json").read_text())
    place = said
    for _ in range(data.draw(st.integers(0, 3))):
        inner = [key for key, value in place.items() if isinstance(value, dict) and value]
        if not inner:
            break
        place = place[data.draw(st.sampled_from(inner))]
    place[data.draw(st.sampled_from([*place, "new"]))] = data.draw(VALUES)
    text = json.dumps(said).encode()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
    (folder / "manifest.json").write_bytes(text)
    table = bytearray((folder / "records.parquet").read_bytes())
    for _ in range(data.draw(st.integers(0, 2))):
        table[data.draw(st.integers(0, len(table) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "records.parquet").write_bytes(table)
    if data.draw(st.booleans()):  # whoever writes both makes them fit
        said["records_sha256"] = f"sha256:{hashlib.sha256(table).hexdigest()}"
        (folder / "manifest.json").write_text(json.dumps(said))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_stands_there_is_read_or_refused_in_one_line(folder, tmp_path, data):
    _fuzzed(folder, tmp_path, data)


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_thousands_of_them(folder, tmp_path, data):
    _fuzzed(folder, tmp_path, data)


def _fuzzed(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "fuzzed", ignore_errors=True)
    fuzz(copy := shutil.copytree(folder, tmp_path / "fuzzed"), data)
    assert "\n" not in refused_or_read(copy)
