"""Sets that were tampered with: every change is found, the records are named, and untouched data raises no alarm."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustml.data import Csv, Digits, HubImages, ImageFolder, ParquetFeatures, ParquetImages, Source, Subset, Texts
from robustml.errors import RequestError
from robustml.results.integrity import Comparison
from robustml.workflows.integrity.manifest import make_manifest, manifest_of
from robustml.workflows.integrity.verify import verify_data
from workflows.tampering import content, digits, flip, made, rewritten


def verified(source: Source, folder: Path) -> Comparison:
    return verify_data(source, folder / "m", unsigned=True)


def said(found: Comparison) -> dict[str, str]:
    """What is said of each record."""
    return {change.record: change.what for change in found.records}


@pytest.fixture
def digits_set(tmp_path):
    source = made(tmp_path)
    make_manifest(source, tmp_path / "m", name="digits", decoded=False)
    return source


def delete(at: int) -> Callable[[list[bytes], list[int]], None]:
    def change(pictures: list[bytes], labels: list[int]) -> None:
        del pictures[at], labels[at]

    return change


def swap(i: int, j: int) -> Callable[[list[bytes], list[int]], None]:
    def change(pictures: list[bytes], labels: list[int]) -> None:
        for column in (pictures, labels):
            column[i], column[j] = column[j], column[i]

    return change


def swap_labels(pictures: list[bytes], labels: list[int]) -> None:
    labels[3], labels[5] = labels[5], labels[3]


def duplicate(pictures: list[bytes], labels: list[int]) -> None:
    pictures.insert(9, pictures[100])
    labels.insert(9, labels[100])


def truncate(pictures: list[bytes], labels: list[int]) -> None:
    del pictures[150:], labels[150:]


def several(pictures: list[bytes], labels: list[int]) -> None:
    pictures[2] = digits(1, 1500)[0][0]
    pictures[4], pictures[6] = pictures[6], pictures[4]
    delete(20)(pictures, labels)
    labels[50] = 11


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (delete(17), {"train 17": "deleted"}),
        (swap(7, 90), {"train 7": "swapped with train 90", "train 90": "swapped with train 7"}),
        (swap(7, 8), {"train 7": "swapped with train 8", "train 8": "swapped with train 7"}),
        (swap_labels, {"train 3": "label 3 -> 5", "train 5": "label 5 -> 3"}),
        (duplicate, {"train 9": "inserted; a copy of train 100"}),
        (truncate, {f"train {row}": "deleted" for row in range(150, 160)}),
        (
            several,
            {
                "train 2": "input",
                "train 4": "swapped with train 6; input",
                "train 6": "swapped with train 4; input",
                "train 20": "deleted",
                "train 51": f"label {digits(52)[1][51]} -> 11",
            },
        ),
        (lambda *_: None, {}),
    ],
)
def test_records_are_named(digits_set, tmp_path, change, expected):
    assert verified(digits_set, tmp_path).same
    rewritten(tmp_path / "train.parquet", change)
    found = verified(digits_set, tmp_path)
    assert not found.same
    assert said(found) == expected
    assert [one.file for one in found.files] == ["train.parquet"]
    assert ("every record of the part reads as signed" in found.files[0].change) == (not expected)


def test_files_are_named(digits_set, tmp_path):
    test, train = tmp_path / "test.parquet", tmp_path / "train.parquet"
    shutil.copy(test, train)
    found = verified(digits_set, tmp_path)
    assert [str(one) for one in found.files] == [f"train.parquet: {found.files[0].change}"]
    assert found.files[0].change.endswith("it is a copy of test.parquet")
    assert len(found.records) == 160
    test.unlink()
    found = verified(digits_set, tmp_path)
    assert [one.file for one in found.files] == ["train.parquet", "test.parquet"]
    assert all("unreadable" in said(found)[f"test {row}"] for row in range(40))
    with pytest.raises(RequestError, match="no folder"):
        verified(type(digits_set)(str(tmp_path / "a/b"), str(tmp_path / "a/c")), tmp_path)


def check_flips(folder: Path, compression: str, count: int, seed: int) -> int:
    """Flip bits all over a file, one at a time; how many of the flips changed a record or what can be read."""
    source, chance, changed = made(folder, compression=compression), random.Random(seed), 0
    make_manifest(source, folder / "m", name="digits", decoded=False)
    path = folder / "train.parquet"
    before, whole = content(path), path.read_bytes()
    assert before is not None
    for _ in range(count):
        bit = chance.randrange(8 * len(whole))
        flip(path, bit)
        found, after = verified(source, folder), content(path)
        assert [one.file for one in found.files] == ["train.parquet"], bit
        named = said(found)
        if after is not None and len(after) == len(before):
            truth = {row for row, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
            assert truth <= {int(name.split()[1]) for name in named}, bit
            # a readable file names no record that it does not change
            assert len(named) == len(truth), bit
        else:
            assert named, bit
        changed += bool(named)
        path.write_bytes(whole)
        assert verified(source, folder).same
    return changed


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_a_flipped_bit_anywhere_is_found_and_its_record_named(tmp_path, compression):
    assert check_flips(tmp_path, compression, 20, 1) > 10


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_hundreds_of_flipped_bits(tmp_path, compression):
    assert check_flips(tmp_path, compression, 150, 2) > 75


def test_behind_a_broken_page_other_groups_are_still_compared(digits_set, tmp_path):
    path = tmp_path / "train.parquet"
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    held = bytearray(path.read_bytes())
    held[start : start + 4] = b"\xff" * 4  # the header of the first page of the first of three groups
    held[held.find(digits(1, 159)[0][0]) + 20] ^= 1
    path.write_bytes(held)
    named = said(verified(digits_set, tmp_path))
    assert {name for name, what in named.items() if what.startswith("unreadable")} == {f"train {n}" for n in range(64)}
    assert named["train 159"] == "input"
    assert len(named) == 65


@pytest.fixture
def photos(tmp_path):
    pictures, labels = digits(30)
    for row, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        path = tmp_path / "photos" / ("odd" if label % 2 else "even") / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    source = ImageFolder(str(tmp_path / "photos"))
    make_manifest(source, tmp_path / "m", name="photos")
    return source


def test_files_of_a_folder_are_records(photos, tmp_path):
    root = tmp_path / "photos"
    even, odd = (sorted((root / name).iterdir()) for name in ("even", "odd"))
    assert verified(photos, tmp_path).same
    (root / ".DS_Store").write_text("x")
    assert verified(photos, tmp_path).same
    shutil.copytree(root, tmp_path / "elsewhere")
    assert verified(ImageFolder(str(tmp_path / "elsewhere")), tmp_path).same
    flip(even[0], 8 * 60)
    even[1].unlink()
    even[2].rename(root / "even" / "renamed.png")
    odd[0].rename(root / "even" / odd[0].name)
    shutil.copy(odd[1], root / "odd" / "added.png")
    held = odd[3].read_bytes(), odd[4].read_bytes()
    odd[3].write_bytes(held[1])
    odd[4].write_bytes(held[0])
    found = verified(photos, tmp_path)
    rows = {path: row for row, path in enumerate([*even, *odd])}
    assert said(found) == {
        f"train {rows[even[0]]}": "input",
        f"train {rows[even[1]]}": "deleted",
        f"train {rows[even[2]]}": "renamed to even/renamed.png",
        f"train {rows[odd[0]]}": f"moved to even/{odd[0].name}; label odd -> even",
        f"train {rows[odd[3]]}": f"swapped with train {rows[odd[4]]}; input",
        f"train {rows[odd[4]]}": f"swapped with train {rows[odd[3]]}; input",
        "train 29": f"inserted; a copy of train {rows[odd[1]]}",
    }
    assert {one.file for one in found.records} >= {"even/00.png", "odd/added.png"}


def test_an_empty_class_and_a_file_that_is_no_picture_are_found(photos, tmp_path):
    (tmp_path / "photos" / "aaa").mkdir()
    (tmp_path / "photos" / "odd" / "notes.txt").write_text("x")
    found = verified(photos, tmp_path)
    assert {str(one).rpartition("/")[2] for one in found.files} == {
        "train: other classes: new 'aaa'",
        "notes.txt: added; every record of the part reads as signed",
    }
    assert found.records == []
    shutil.rmtree(tmp_path / "photos")
    assert len(said(verified(photos, tmp_path))) == 30


ROWS = [f"{row},{row * 7 % 13},{row % 5}.5,{'yes' if row % 3 else 'no'}" for row in range(60)]


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_rows_of_a_table_are_records(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    opener = gzip.open if ending.endswith("gz") else open

    def store(rows: list[str], header: str = "id,size,age,label") -> None:
        with opener(path, "wb") as file:
            file.write("\n".join([header, *rows, ""]).encode())

    store(ROWS)
    source = Csv(str(path))
    made = make_manifest(source, tmp_path / "m", name="table")
    assert made.parts["train"].classes == {"no": 20, "yes": 40}
    assert verified(source, tmp_path).same
    rows = list(ROWS)
    rows[10] = rows[10].replace("yes", "no")
    rows[20] = "20,99,77,yes"
    rows[40], rows[41] = rows[41], rows[40]
    del rows[30]
    store(rows)
    assert said(verified(source, tmp_path)) == {
        "train 10": "label yes -> no",
        "train 20": "input (size, age)",
        "train 30": "deleted",
        "train 40": "swapped with train 41",
        "train 41": "swapped with train 40",
    }
    store(ROWS, header="id,size,age,lbbel")
    assert "expected one column 'label'" in said(verified(source, tmp_path))["train 59"]


def test_a_flipped_bit_anywhere_in_a_table_is_found(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["id,size,age,label", *ROWS, ""]))
    source, chance, whole = Csv(str(path)), random.Random(3), path.read_bytes()
    make_manifest(source, tmp_path / "m", name="table")
    lines = whole.split(b"\n")
    starts = [sum(len(line) + 1 for line in lines[:count]) for count in range(len(lines))]
    for bit in chance.sample(range(8 * len(whole)), 80):
        flip(path, bit)
        found = verified(source, tmp_path)
        assert not found.same
        line = max(count for count, start in enumerate(starts) if start <= bit // 8)
        if found.records and 0 < line <= len(ROWS):
            assert f"train {line - 1}" in said(found), bit
        path.write_bytes(whole)


def test_texts_and_vectors_are_records(tmp_path):
    for row in range(6):
        path = tmp_path / "mails" / ("spam" if row % 2 else "ham") / f"{row}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mail %d \xe9" % row)
    texts = Texts(str(tmp_path / "mails"))
    make_manifest(texts, tmp_path / "m", name="mails")
    (tmp_path / "mails" / "ham" / "2.txt").write_bytes(b"other")
    assert said(verified(texts, tmp_path)) == {"train 1": "input"}

    features = [[row / 10, 0.5] for row in range(10)]
    table = pa.table({"features": features, "label": [row % 2 for row in range(10)]})
    pq.write_table(table, tmp_path / "f.parquet")
    vectors = ParquetFeatures(str(tmp_path / "f.parquet"))
    make_manifest(vectors, tmp_path / "n", name="vectors")
    features[4][1] = 0.25
    pq.write_table(table.set_column(0, "features", pa.array(features)), tmp_path / "f.parquet")
    assert said(verify_data(vectors, tmp_path / "n", unsigned=True)) == {"train 4": "input"}


def test_a_bundled_set_has_no_files_and_is_compared_as_it_is_decoded(tmp_path):
    made = make_manifest(Digits(), tmp_path / "m", name="digits")
    assert (made.files, made.parts["train"].records, made.parts["test"].records) == ([], 1437, 360)
    assert made.parts["train"].decoded == Digits().load("train").fingerprint()
    assert verified(Digits(), tmp_path).same
    assert not verified(Digits(test_fraction=0.3), tmp_path).same


def test_a_stream_is_never_held_and_a_set_that_goes_on_keeps_its_series(tmp_path):
    def stream(count: int):
        for row in range(count):
            yield {"input": b"x" * 100 + row.to_bytes(4, "big"), "label": b"ab"[row % 2 : row % 2 + 1]}

    first = manifest_of(stream(5000), tmp_path / "m", name="stream", revision="1")
    assert first.parts["train"].classes == {"a": 2500, "b": 2500}
    (tmp_path / "m" / "signature.sigstore.json").write_text("{}")
    second = manifest_of(stream(5001), tmp_path / "m", name="stream", revision="2")
    assert (second.series, first.serial, second.serial) == (first.series, 1, 2)
    assert second.root != first.root
    assert not (tmp_path / "m" / "signature.sigstore.json").exists()
    with pytest.raises(RequestError, match="no record"):
        manifest_of(iter([]), tmp_path / "n", name="nothing")
    with pytest.raises(RequestError, match="same fields"):
        manifest_of([{"input": b""}, {"other": b""}], tmp_path / "n", name="odd")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RequestError, match="something else"):
        manifest_of(stream(1), tmp_path / "full", name="x")


def test_pictures_that_a_table_lists_belong_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where paths in a Parquet file begin
    (tmp_path / "set").mkdir()
    pictures, labels = digits(8)
    for row, picture in enumerate(pictures):
        (tmp_path / "set" / f"{row}.png").write_bytes(picture)
    lines = [f"{row}.png,{label}" for row, label in enumerate(labels)]
    (tmp_path / "set" / "list.csv").write_text("\n".join(["image,label", *lines, ""]))
    table = pa.table({"image": [{"bytes": None, "path": f"set/{row}.png"} for row in range(8)], "label": labels})
    pq.write_table(table, tmp_path / "set" / "list.parquet")
    sources = [Csv("set/list.csv", image="image"), ParquetImages("set/list.parquet")]
    for number, source in enumerate(sources):
        made = make_manifest(source, tmp_path / f"m{number}", name="listed")
        assert len(made.files) == 9
        assert verify_data(source, tmp_path / f"m{number}", unsigned=True).same
    flip(tmp_path / "set" / "3.png", 8 * 50)
    (tmp_path / "set" / "5.png").unlink()
    for number, source in enumerate(sources):
        found = verify_data(source, tmp_path / f"m{number}", unsigned=True)
        assert said(found)["train 3"] == "input"
        assert set(said(found)) == {"train 3", "train 5"}
        assert [str(one) for one in found.files] == ["3.png: altered", "5.png: missing"]
    with pytest.raises(RequestError, match=r"5\.png"):
        make_manifest(sources[0], tmp_path / "m2", name="listed")


def test_some_classes_of_a_set_are_proved_with_all_of_it_and_a_lost_file_is_not_looked_for_on_the_hub(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ROBUSTML_DATA", str(tmp_path))
    made_set = made(tmp_path / "mnist")
    source = Subset(HubImages("ylecun/mnist"), classes=["3", "8"])
    make_manifest(source, tmp_path / "m", name="two classes")
    assert verified(source, tmp_path).same
    Path(str(made_set.test)).unlink()
    found = verified(source, tmp_path)
    assert [str(one) for one in found.files] == ["test.parquet: missing"]
    assert len(found.records) == 40
