"""A class is its name: whatever order, type or subset of classes a part has, its labels are those of its names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from robustml.data import DataModule, ParquetFeatures, ParquetImages, Records, Subset, Texts, class_index
from robustml.data.labels import encode_labels
from robustml.errors import RequestError

from .test_module import Given
from .tiny import noise, png, write_parquet


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        ([2021, 2019, 2021], [1, 0, 1], ("2019", "2021")),
        ([20210101, 10**12, 10**18], [0, 1, 2], ("20210101", "1000000000000", "1000000000000000000")),
        ([10**30, 7], [1, 0], ("7", str(10**30))),
        ([1, 2, 3], [0, 1, 2], ("1", "2", "3")),
        ([0, 1, 3], [0, 1, 2], ("0", "1", "3")),
        ([10, 9, 2], [2, 1, 0], ("2", "9", "10")),
        ([1.0, 3.0, 1.0], [0, 1, 0], ("1", "3")),
        ([1, 2.0], [0, 1], ("1", "2")),
        ([-1, 1], [0, 1], ("-1", "1")),
        ([-2, -1, 0], [0, 1, 2], ("-2", "-1", "0")),
        ([True, False], [1, 0], ("False", "True")),
        ([np.int8(5), np.int64(3)], [1, 0], ("3", "5")),
        ([np.bool_(True), False], [1, 0], ("False", "True")),
        (["01", "1", "10"], [0, 1, 2], ("01", "1", "10")),
        (["b", "a", " b"], [1, 0, 1], ("a", "b")),
        (["None", "NA", "null", "nan"], [1, 0, 3, 2], ("NA", "None", "nan", "null")),
        ([unicodedata.normalize(form, "café") for form in ("NFC", "NFD")], [0, 0], ("caf\u00e9",)),
    ],
    ids=repr,
)
def test_the_naming_rule(values, labels, names):
    y, found = encode_labels(values, None, str)
    assert found == names
    assert y.tolist() == labels


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0, None], "1: expected a label, found none"),
        (["a", ""], "1: expected a label, found none"),
        (["a", "  "], "1: expected a label, found none"),
        ([1.0, float("nan")], "1: expected a label, found none"),
        ([1, pd.NA], "1: expected a label, found none"),
        ([pd.NaT], "0: expected a label, found none"),
        ([0, 1.5], "1: .*all integers or all strings, got the float 1.5"),
        ([0, float("inf")], "1: .*got the float inf"),
        ([0, "a"], "1: .*all integers or all strings, got the string 'a'"),
        (["a", 0], "0: .*all integers or all strings, got the string 'a'"),
        ([1, True], "1: .*got the string 'True'"),
        ([[0], [1]], r"0: .*got the list \[0\]"),
        ([b"a"], "0: .*got the bytes b'a'"),
        ([0, 1, -1], "2: the label -1 beside 0"),
        (list(range(5000)), "0: 5,000 different labels in 5,000 rows are no classes"),
        ([f"{row}.png" for row in range(2000)], "0: 2,000 different labels in 2,000 rows"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_label(values, says):
    with pytest.raises(RequestError, match=says) as caught:
        encode_labels(values, None, str)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "known", "coded", "labels"),
    [
        (["1", "3"], ("3", "2", "1"), None, [2, 0]),
        ([1, 3], ("3", "2", "1"), None, [2, 0]),
        ([1.0], ("3", "2", "1"), None, [2]),
        ([0, 1, 0], ("dog", "cat"), ("cat", "dog"), [1, 0, 1]),
        ([0, 0], ("dog", "bird", "cat"), ("cat",), [2, 2]),
        (["cat"], ("dog", "cat"), ("cat", "dog"), [1]),
        ([0, 2], None, ("b", "a", "c"), [0, 2]),
        ([True], ("True", "False"), None, [0]),
    ],
)
def test_labels_are_matched_with_known_classes_by_name(values, known, coded, labels):
    y, names = encode_labels(values, known, str, coded=coded)
    assert y.tolist() == labels
    assert names == (known or coded)


@pytest.mark.parametrize(
    ("values", "known", "coded", "says"),
    [
        (["dgo"], ("cat", "dog"), None, "the label 'dgo' is no training class; did you mean 'dog'"),
        (
            [0],
            ("cat", "dog"),
            None,
            r"numbers without names cannot be matched with classes that have names \(cat, dog\)",
        ),
        (["01"], ("1", "2"), None, "the label '01' is no training class"),
        ([0, 1], ("cat", "bird"), ("cat", "dog"), "1: the label 'dog' is no training class"),
        ([0, 2], None, ("cat", "dog"), r"1: expected a label in 0\.\.1, got 2"),
        ([0, -1], None, ("cat", "dog"), r"1: expected a label in 0\.\.1, got -1"),
        (["x"], tuple(map(str, range(1000))), None, "0, 1, 2.* and 990 more"),
    ],
)
def test_what_no_known_class_is_called(values, known, coded, says):
    with pytest.raises(RequestError, match=says) as caught:
        encode_labels(values, known, str, coded=coded)
    assert len(str(caught.value)) < 300


def test_a_class_is_found_by_name_before_it_is_counted():
    names = ("1", "2", "3")
    assert [class_index(value, names) for value in (1, "2", 3, 0)] == [0, 1, 2, 0]
    assert class_index("cat", ("dog", "cat")) == class_index(1, ("dog", "cat")) == 1
    assert class_index(True, ("false", "true")) == class_index(True, ("False", "True")) == 1
    for value, says in (("cta", "did you mean 'cat'"), (2, "0 to 1"), (-1, "0 to 1"), (True, "no class True")):
        with pytest.raises(RequestError, match=says):
            class_index(value, ("dog", "cat"))


def test_renamed_moves_labels_with_their_names():
    arrays = Records(torch.rand(4, 2), torch.tensor([0, 1, 2, 1]), ("a", "b", "c"))
    moved = arrays.renamed(("c", "d", "a", "b"))
    assert moved.y.tolist() == [2, 3, 0, 3]
    assert torch.equal(moved.x, arrays.x)
    assert moved.without_rows() == ("d",)
    assert arrays.take(torch.tensor([0, 0])).renamed(("a",)).y.tolist() == [0, 0], (
        "a class without a row is no obstacle"
    )
    with pytest.raises(RequestError, match="'b', 'c' are no training classes; known: a, z"):
        arrays.renamed(("a", "z"))


# How one part may write its labels: as names, as numbers of names in some order, with or without classes that it lacks.
WRITTEN = {
    "text": (["cat", "dog", "fox", "dog"], None),
    "coded": ([0, 1, 2, 1], ["cat", "dog", "fox"]),
    "coded otherwise": ([2, 0, 1, 0], ["dog", "fox", "cat"]),
    "coded with more": ([3, 0, 2, 0], ["dog", "emu", "fox", "cat"]),
}


def write_features(path: Path, labels: list[object], names: list[str] | None) -> str:
    write_parquet(path, [None] * len(labels), labels, names)
    table = pq.read_table(path).remove_column(0)
    pq.write_table(table.add_column(0, "features", pa.array([[0.5, 0.1]] * len(labels))), path)
    return str(path)


def write_pictures(path: Path, labels: list[object], names: list[str] | None) -> str:
    return write_parquet(path, [png(image) for image in noise(len(labels), 4, 4)], labels, names)


def write_texts(path: Path, labels: list[object], names: list[str] | None) -> str:
    write_parquet(path, [None] * len(labels), labels, names)
    table = pq.read_table(path).remove_column(0)
    pq.write_table(table.add_column(0, "text", pa.array(["some words"] * len(labels))), path)
    return str(path)


KINDS = {
    "images": (ParquetImages, write_pictures),
    "features": (ParquetFeatures, write_features),
    "text": (Texts, write_texts),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train", WRITTEN)
@pytest.mark.parametrize("test", WRITTEN)
def test_parts_that_write_their_classes_in_different_ways(tmp_path, kind, train, test):
    source, write = KINDS[kind]
    files = [write(tmp_path / f"{part}.parquet", *WRITTEN[how]) for part, how in (("train", train), ("test", test))]
    data = DataModule(source(*files), name="pets", val_size=0)
    data.setup()
    for part in (data.train, data.test):
        assert [part.class_names[label] for label in part.y.tolist()] == ["cat", "dog", "fox", "dog"]
        assert part.class_names == data.class_names


def test_numbers_without_names_are_not_guessed(tmp_path):
    named = write_pictures(tmp_path / "a.parquet", *WRITTEN["coded"])
    bare = write_pictures(tmp_path / "b.parquet", [0, 1, 2, 1], None)
    for parts in ((named, bare), (bare, named)):
        with pytest.raises(RequestError, match="no training class"):
            DataModule(ParquetImages(*parts), name="pets", val_size=0).setup()


def test_class_names_of_a_run_decide_on_the_labels(toy):
    arrays = toy(10)
    data = DataModule(Given(arrays, arrays), name="toy", val_size=0, class_names=["odd", "none", "even"])
    data.setup()
    assert data.train.y.tolist() == data.test.y.tolist() == [2, 0] * 5
    assert data.num_classes == 3
    assert data.notes() == [
        "no training sample of 1 of 3 classes: none",
        "no test sample of 1 of 3 classes: none",
    ]
    for names, says in ((["even"], "'odd' is no training class"), (["a", "b", "c"], "'even', 'odd' are no")):
        with pytest.raises(RequestError, match=says):
            DataModule(Given(arrays, arrays), name="toy", val_size=0, class_names=names).setup()
    with pytest.raises(RequestError, match=r"expected 2 classes, data\.class_names \(or the run\) names 3"):
        DataModule(Given(arrays, arrays), name="toy", class_names=["a", "even", "odd"], num_classes=2).setup()


def test_a_subset_by_numbers_is_one_by_names(toy):
    arrays = toy(10)
    numbered = Given(Records(arrays.x, arrays.y, ("7", "3")), arrays)
    assert Subset(numbered, [3, 7]).load("train").y.tolist() == [1, 0] * 5
