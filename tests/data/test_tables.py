"""CSV files as people have them: no column vanishes, no index is learnt, and labels are what is written."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from robustml.data import Csv, Records, cached
from robustml.errors import RequestError

from .tiny import noise, png

GREY = noise(3, 6, 5)


def csv(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def load(tmp_path: Path, text: str, **options: object) -> Records:
    path = csv(tmp_path / "a.csv", text)
    return Csv(path, path, **options).load("train")


def columns(arrays: Records) -> list[str]:
    return [column.name for column in arrays.understood.columns]


def notes(arrays: Records) -> str:
    return "; ".join(arrays.understood.notes)


def test_scaled_by_the_training_file_and_found_by_name(tmp_path):
    train = csv(tmp_path / "a.csv", "size,name,label,weight,same\n0,x,no,10,3\n4,y,yes,30,3\n2,z,no,20,3\n")
    test = csv(tmp_path / "b.csv", "label,new,weight,size,same\nyes,1,15,8,3\n")
    arrays = Csv(train, test).load("train")
    assert arrays.x.tolist() == [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0]]
    assert arrays.x.dtype == torch.float32
    assert arrays.y.tolist() == [0, 1, 0]
    assert arrays.class_names == ("no", "yes")
    assert columns(arrays) == ["size", "weight", "same"]
    assert arrays.understood.ignored == {"name": "text, such as 'x'"}
    assert "constant, hence 0: same" in notes(arrays)
    other = Csv(train, test).load("test")
    assert other.x.tolist() == [[1, 0.25, 0]]
    assert other.y.tolist() == [1]
    assert "clipped: 1 in size" in notes(other)
    assert other.understood.ignored == {"new": "not in the training file"}


def test_without_a_test_file(tmp_path):
    train = csv(tmp_path / "a.csv", "a,label\n" + "".join(f"{row * 2},{row % 2}\n" for row in range(20)))
    parts = [Csv(train).load(split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [16, 4]
    assert len(torch.cat([part.x for part in parts]).unique()) == 20


def test_image_paths(tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(3):
        (tmp_path / "images" / f"{index}.png").write_bytes(png(GREY[index]))
    rows = "".join(f"images/{index}.png,{index % 2}\n" for index in range(3))
    path = csv(tmp_path / "a.csv", f"file,label\n{rows}")
    source = Csv(path, path, image="file")
    np.testing.assert_array_equal(source.load("train").x[:, 0].numpy(), GREY)
    assert len(source.files("train")) == 5
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(RequestError, match=r"a\.csv, line 3: .*1\.png: cannot read the image"):
        source.load("train")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,lable\n1,0\n", "no column 'label'; did you mean 'lable'"),
        ("1,2,3\n4,5,6\n", "no column 'label', and the first line looks like data"),
        ("a,label\n1,0\n\n\n2,\n", "line 5: expected a label, found none"),
        ('a,b,label\n1,"x\ny",0\n\n?,z,1\n', "line 5: expected a number in 'a', got '[?]'"),
        ("a,label\n1,0\n,1\n", "line 3: expected a number in 'a', got '' .missing in 1 of 2 rows.* drop_rows"),
        ("a,label\n1,0\ninf,1\n", "line 3: expected a finite number in 'a'"),
        (
            "a,label\n1,0\n2,0\nfoo,1\n",
            r"line 4: expected numbers in 'a', got 'foo' in 1 of 3 .*missing_values=\['foo'\]",
        ),
        ("a,label\nx,0\ny,1\n", "numeric feature columns beside 'label', found none; a: text, such as 'x'"),
        ("a,label\n12%,0\n13%,1\n", "'a' holds '12%', which looks like a number"),
        ('a,label\n"1,5",0\n"2,5",1\n', r"'a' holds '1,5', which looks like .*data\.source\.decimal"),
        ("a,a,label\n1,2,0\n3,4,1\n", "2 columns are called 'a'"),
        ("a,label\n1,0\n\n1,2,0\n", "line 4: 3 cells, but the header has 2 names"),
        ("a,label\n1,2,0\n2,3,1\n", "line 2: 3 cells, but the header has 2 names"),
        ("a,,label\n1,.5,0\n2,.7,1\n", r"column 2 holds numbers and has no name; .*ignore=\['Unnamed: 1'\]"),
        ("a;label\n1,234;0\n2,000;1\n", "'1,234' may be a decimal number or one of thousands; set data.source.decimal"),
        ("a;label\n" + "1;0\n" * 60 + "1,5;1\n", "line 62: .* got '1,5' .*set data.source.decimal"),
        ("a,label\n1,0\n2,-1\n", "line 3: the label -1 beside 0 mostly means that there is none"),
        ("", "not a readable CSV file"),
        ('a,label\n"1,0\n', "not a readable CSV file"),
        ("PK\x03\x04", "in the format of Excel or zip"),
    ],
)
def test_refused_in_one_line(tmp_path, text, says):
    with pytest.raises(RequestError, match=says) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_parts_must_agree(tmp_path):
    train = csv(tmp_path / "a.csv", "a,label\n1,0\n2,1\n")
    for text, says in (
        ("b,label\n1,0\n", "b.csv: no column 'a'"),
        ("a,label\nx,0\n", "b.csv, line 2: expected numbers in 'a'"),
    ):
        with pytest.raises(RequestError, match=says):
            Csv(train, csv(tmp_path / "b.csv", text)).load("test")
    with pytest.raises(RequestError, match=r"no file .*gone.csv"):
        Csv(train, str(tmp_path / "gone.csv")).load("test")


# no column vanishes


@pytest.mark.parametrize(
    "token", ["?", "NA", "N/A", "nan", "null", "None", "-", "--", ".", "", " ", "unknown", "-999", "n.d."]
)
def test_a_missing_number_drops_no_column(tmp_path, token):
    """Four columns of five had a "?" each, and the model was trained on the fifth."""
    text = f"a,b,c,label\n1,5,0,x\n{token},6,1,y\n3,7,2,x\n5,{token},4,y\n"
    options = {"missing_values": [token]} if token in ("unknown", "-999", "n.d.") else {}
    with pytest.raises(RequestError, match="line 3: expected a number in 'a'"):
        load(tmp_path, text, **options)
    if options and token != "-999":
        with pytest.raises(RequestError, match=f"line 3: expected numbers in 'a', got '{token}' in 1 of 4 rows"):
            load(tmp_path, text, missing="mean")
    kept = load(tmp_path, text, missing="drop_rows", **options)
    assert kept.x.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert kept.y.tolist() == [0, 0]
    assert "2 of 4 rows lack a number and are left out" in notes(kept)
    filled = load(tmp_path, text, missing="mean", **options)
    assert filled.x.tolist() == [[0, 0, 0], [0.5, 0.5, 0.25], [0.5, 1, 0.5], [1, 0.5, 1]]
    assert [(column.name, column.missing) for column in filled.understood.columns] == [("a", 1), ("b", 1), ("c", 0)]


def test_missing_numbers_of_the_test_part_take_the_mean_of_the_training_part(tmp_path):
    train = csv(tmp_path / "a.csv", "a,label\n0,x\n4,y\n2,x\n")
    test = csv(tmp_path / "b.csv", "label,a\nx,NA\ny,4\n")
    assert Csv(train, test, missing="mean").load("test").x.tolist() == [[0.5], [1]]
    dropped = Csv(train, test, missing="drop_rows").load("test")
    assert (dropped.x.tolist(), dropped.y.tolist()) == ([[1]], [1])


def test_a_column_of_mostly_missing_numbers_is_no_text(tmp_path):
    rows = "".join(f"{'?' if row else 3},{row % 4},{row % 2}\n" for row in range(8))
    with pytest.raises(RequestError, match=r"'a', got '\?' \(missing in 7 of 8 rows\)"):
        load(tmp_path, f"a,b,label\n{rows}")
    assert columns(load(tmp_path, f"a,b,label\n{rows}", ignore=["a"])) == ["b"]


def test_truth_values_and_columns_asked_for(tmp_path):
    text = "t,b,u,label\nTrue,1,x,0\nfalse,2,y,1\nTRUE,2,z,1\n"
    arrays = load(tmp_path, text)
    assert arrays.x.tolist() == [[1, 0], [0, 1], [1, 1]]
    chosen = load(tmp_path, text, features=["b"])
    assert chosen.x.tolist() == [[0], [1], [1]]
    assert chosen.understood.ignored["t"] == "not in data.source.features"
    for options, says in (
        ({"features": ["u"]}, "expected numbers in 'u', got 'x', 'y', 'z'"),
        ({"features": ["c"]}, "no column 'c'"),
        ({"features": ["b", "label"]}, "names 'label', which is the label"),
        ({"ignore": ["c"]}, "no column 'c'"),
        ({"features": "b"}, "is a list"),
        ({"missing": "drop"}, "did you mean 'drop_rows'"),
        ({"separator": ";;"}, "as one character"),
        ({"decimal": "x"}, "decimal as"),
        ({"encoding": "latin-11"}, "encoding='latin-11' is unknown"),
    ):
        with pytest.raises(RequestError, match=says):
            load(tmp_path, text, **options)


# no index is learnt


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("", "0..", "without a name: an index"),
        ("", "shuffled", "without a name: an index"),
        ("", "twice", "without a name: an index"),
        ("Unnamed: 0", "0..", "without a name: an index"),
        ("Unnamed: 0.1", "shuffled", "without a name: an index"),  # pandas' name for one that was written twice
        ("id", "shuffled", "an identifier: each number once"),
        ("PassengerId", "1..", "an identifier: each number once"),
        ("row_number", "shuffled", "an identifier: each number once"),
        ("Index", "1..", "an identifier: each number once"),
        ("whatever", "1..", "counts the rows"),
        ("whatever", "0..", "counts the rows"),
        ("whatever", "shuffled", None),
        ("humid", "shuffled", None),
        ("room_no", "twice", None),
    ],
)
def test_what_numbers_the_rows_is_no_feature(tmp_path, name, values, why):
    """The index that pandas writes told the class of a sorted file: 97% where 33% was true."""
    numbers = {"0..": range(30), "1..": range(1, 31), "shuffled": np.random.RandomState(0).permutation(30) + 7}
    numbers["twice"] = [*range(15), *range(15)]
    rows = [f"{number},{row % 7},{'xyz'[row // 10]}" for row, number in enumerate(numbers[values])]
    text = "\n".join([f"{name},a,label", *rows])
    arrays = load(tmp_path, text)
    shown = name or "Unnamed: 0"
    assert columns(arrays) == (["a"] if why else [shown, "a"])
    assert arrays.understood.ignored == ({shown: why} if why else {})
    assert ("called like identifiers: room_no" in notes(arrays)) == (name == "room_no")
    assert columns(load(tmp_path, text, features=[shown, "a"])) == [shown, "a"]


def test_pandas_index_of_a_shuffled_and_split_frame(tmp_path):
    frame = pd.DataFrame({"a": np.arange(40) % 9, "label": ["x"] * 20 + ["y"] * 20}).sample(frac=1, random_state=0)
    frame[:30].to_csv(tmp_path / "a.csv")
    frame[30:].to_csv(tmp_path / "b.csv")
    source = Csv(str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))
    assert [source.load(split).x.shape for split in ("train", "test")] == [(30, 1), (10, 1)]


def test_what_gives_the_label_away_is_said(tmp_path):
    rows = [f"{row % 2},{row // 2 % 2},{'xy'[row % 2]}" for row in range(24)]
    arrays = load(tmp_path, "\n".join(["code,a,label", *rows]))
    assert "code alone tells the label" in notes(arrays)
    assert "a alone" not in notes(arrays)


# labels are as they are written


@pytest.mark.parametrize(
    "names",
    [
        ["01", "02"],
        ["None", "yes"],
        ["NA", "null"],
        ["1", "2"],
        ["2019", "2020"],
        ["-1", "1"],
        ["9", "10"],
        ["-2", "-1"],
    ],
)
def test_labels_are_names_as_written(tmp_path, names):
    text = "a,label\n" + "".join(f"{row * 3 % 7},{names[row % 2]}\n" for row in range(8))
    arrays = load(tmp_path, text)
    assert arrays.class_names == tuple(names)
    assert arrays.y.tolist() == [0, 1] * 4


def test_a_measurement_is_no_label(tmp_path):
    text = "a,label\n" + "".join(f"{row % 3},{row * 0.37:.2f}\n" for row in range(30))
    with pytest.raises(RequestError, match="'label' has 30 different values in 30 rows, so it names no classes"):
        load(tmp_path, text)


# dialects


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), (";", "."), ("\t", ","), ("|", ".")])
def test_dialects_are_found_or_set(tmp_path, separator, decimal, encoding):
    text = "größe (cm, netto)|b|label\r\n1.5|2|süß\r\n2.5|4|rot\r\n2.0|3|süß\r\n".replace("|", separator)
    header, *rows = text.split("\r\n")
    header = header.replace("größe (cm, netto)", '"größe (cm, netto)"')
    rows = [row.replace(".", decimal) for row in rows]
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join([header, *rows]).encode(encoding))
    if encoding in ("latin-1", "cp1252"):
        with pytest.raises(RequestError, match=r"a\.csv, line 1: byte 3 is not UTF-8; set data\.source\.encoding"):
            Csv(str(path), str(path)).load("train")
    given = encoding if encoding in ("latin-1", "cp1252") else None
    arrays = Csv(str(path), str(path), encoding=given).load("train")
    assert arrays.x.tolist() == [[0, 0], [1, 1], [0.5, 0.5]]
    assert arrays.class_names == ("rot", "süß")
    assert columns(arrays) == ["größe (cm, netto)", "b"]
    assert (f"{separator!r} (found)" in arrays.understood.facts.get("separator", "")) == (separator != ",")
    assert (encoding in arrays.understood.facts.get("encoding", "")) == (encoding != "utf-8")


def test_a_compressed_file_and_options_by_hand(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a label\n1,5 x\n2,5 y\n"))
    path = str(tmp_path / "a.csv.gz")
    arrays = Csv(path, path, separator=" ", decimal=",").load("train")
    assert [(column.low, column.high) for column in arrays.understood.columns] == [(1.5, 2.5)]


def test_numbers_as_names_of_columns(tmp_path):
    text = "0,1,2\n4,5,x\n6,9,y\n"
    assert columns(load(tmp_path, text, label=2)) == ["0", "1"]
    with pytest.raises(RequestError, match="no column '3', and the first line looks like data"):
        load(tmp_path, text, label=3)


def test_what_was_understood_survives_the_cache(tmp_path):
    path = csv(tmp_path / "a.csv", ",a;b,label\n0,1,x\n1,5,y\n2,3,x\n")
    first, second = (cached(Csv(path, path), "train") for _ in range(2))
    assert first.understood == second.understood
    assert first.understood.ignored == {"Unnamed: 0": "without a name: an index"}
    assert first.understood.lines() == [
        "1 columns: a;b; from 1 to 5, scaled to [0, 1]",
        "ignored: Unnamed: 0 (without a name: an index)",
    ]
