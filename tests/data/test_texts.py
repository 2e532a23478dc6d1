from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from corpora import mail_round, write_mails

from robustml.data import DataModule, Texts
from robustml.data.sources.text import bag_of_words
from robustml.errors import RequestError

from .tiny import write_texts

TRAIN = ["Cat dog, dog!", "a cat; a bird", "the cat and the dog"]


# words


@pytest.mark.parametrize(
    ("features", "rows"),
    [
        (2, [[1, 1], [1, 0], [1, 1]]),  # cat in three texts, dog in two
        (3, [[0, 1, 1], [0, 1, 0], [1, 1, 1]]),  # of and, bird and the, once each, the first in the alphabet
        (9, [[0, 0, 1, 1, 0], [0, 1, 1, 0, 0], [1, 0, 1, 1, 1]]),  # "a" is too short to be a word
    ],
)
def test_presence(features, rows):
    x = bag_of_words(TRAIN, TRAIN, features)
    assert x.dtype == torch.float32
    assert x.tolist() == rows


def test_words_of_the_test_part_are_no_words():
    assert bag_of_words(["fish fish fish dog", "", "CAT"], TRAIN, 2).tolist() == [[0, 1], [0, 0], [1, 0]]


def test_tfidf():
    # scikit-learn's: ln((1 + 3) / (1 + texts with the word)) + 1, times occurrences, divided by the length
    cat, dog = 1.0, math.log(4 / 3) + 1
    length = math.hypot(cat, 2 * dog)
    x = bag_of_words([TRAIN[0], "cat", "cat dog cat dog", ""], TRAIN, 2, "tfidf")
    assert x[0].tolist() == pytest.approx([cat / length, 2 * dog / length])
    assert x[1:].norm(dim=1).tolist() == pytest.approx([1, 1, 0])
    assert float(x.max()) <= 1


def test_hashing_knows_no_training_part():
    x = bag_of_words(TRAIN, [], 4096, "hashing")
    assert torch.equal(x, bag_of_words(TRAIN, ["whatever else"], 4096, "hashing"))
    assert x.shape == (3, 4096)
    assert set(x.unique().tolist()) == {0, 1}
    # so many columns that these few words share none
    assert x.sum(1).tolist() == [2, 2, 4]
    assert (x[0] * x[1]).sum() == 1


@pytest.mark.parametrize(
    ("train", "options", "says"),
    [
        (TRAIN, {"features": 0}, "at least 1; got 0"),
        (TRAIN, {"bag": "tfdf"}, "bag='tfdf' is unknown; did you mean 'tfidf'"),
        (["", "a ."], {}, "expected words in the training texts, found none"),
    ],
)
def test_bags_refuse(train, options, says):
    with pytest.raises(RequestError, match=says):
        bag_of_words(["x"], train, **options)


# files


def csv(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def folder(root: Path, texts: dict[str, bytes]) -> str:
    for name, content in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return str(root)


def test_one_set_in_three_forms(tmp_path):
    table = csv(tmp_path / "a.csv", 'label,id,text\nspam,1,"buy\nnow"\nham,2,hello\nspam,3,NA\nham,4,\n')
    parquet = write_texts(tmp_path / "a.parquet", ["buy\nnow", "hello", "NA", ""], [1, 0, 1, 0], ["ham", "spam"])
    sorted_folder = folder(
        tmp_path / "mails",
        {"spam/0.txt": b"buy\nnow", "ham/deep/1.txt": b"hello", "spam/2.txt": b"NA", "ham/3.txt": b""},
    )
    (tmp_path / "mails" / ".git").mkdir()
    (tmp_path / "mails" / ".git" / "x.txt").write_text("no mail")
    (tmp_path / "mails" / "spam" / "notes.md").write_text("no mail")
    rows = {}
    for path in (table, parquet, sorted_folder):
        arrays = Texts(path, path).load("train")
        assert arrays.class_names == ("ham", "spam")
        rows[path] = sorted((label, *row) for label, row in zip(arrays.y.tolist(), arrays.x.tolist(), strict=True))
    # buy, hello, na, now
    expected = [(0, 0, 0, 0, 0), (0, 0, 1, 0, 0), (1, 0, 0, 1, 0), (1, 1, 0, 0, 1)]
    assert rows == dict.fromkeys((table, parquet, sorted_folder), expected)
    names = {path.name for path in Texts(sorted_folder, table).files("train")}
    assert names == {"ham", "spam", "0.txt", "1.txt", "2.txt", "3.txt", "notes.md", "a.csv"}


def test_what_is_held_out_decides_on_nothing(tmp_path):
    texts = [f"common only{row:02d}" for row in range(20)]
    source = Texts(write_texts(tmp_path / "a.parquet", texts, [0, 1] * 10))
    train, test = source.load("train"), source.load("test")
    assert (train.x.shape, test.x.shape) == ((16, 17), (4, 17))
    assert train.x.sum(1).tolist() == [2] * 16
    assert test.x.sum(1).tolist() == [1] * 4  # their own word is none of the vocabulary
    assert test.x[:, 0].tolist() == [1] * 4


def test_the_test_file_is_read_with_the_words_and_classes_of_train(tmp_path):
    train = csv(tmp_path / "a.csv", "body,kind\nbuy now,spam\nhello,ham\n")
    test = csv(tmp_path / "b.csv", "kind,body\nspam,hello hello fish\n")
    source = Texts(train, test, text="body", label="kind")
    assert source.load("test").x.tolist() == [[0, 1, 0]]
    assert source.load("test").y.tolist() == [1]
    with pytest.raises(RequestError, match="the label 'scam' is no training class"):
        replace(source, test=csv(tmp_path / "c.csv", "kind,body\nscam,hello\n")).load("test")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8"])
def test_every_text_of_a_folder_is_read_in_its_own_encoding(tmp_path, encoding):
    path = folder(tmp_path, {"a/0.TXT": "caf\u00e9 cr\u00e8me".encode(encoding), "b/1.txt": "caf\u00e9".encode()})
    arrays = Texts(path, path).load("train")
    assert arrays.x.tolist() == [[1, 1], [1, 0]]  # café, crème
    said = arrays.understood.facts.get("encodings", "")
    assert (encoding in said and "0.TXT" in said) != (encoding == "utf-8")
    if encoding == "latin-1":
        with pytest.raises(RequestError, match=r"0\.TXT: byte 3 is not utf-8; set data\.source\.encoding"):
            Texts(path, path, encoding="utf-8").load("train")


def test_texts_tell_what_was_skipped(tmp_path):
    names = [
        "ham/0.txt",
        "ham/.ipynb_checkpoints/0.txt",
        "spam/1.TXT",
        "spam/._1.txt",
        "spam/2.eml",
        "__MACOSX/spam/1.txt",
    ]
    path = folder(tmp_path, {**dict.fromkeys(names, b"buy now"), "spam/3.txt": b" ", "list.csv": b"x"})
    arrays = Texts(path, path).load("train")
    assert (len(arrays), arrays.class_names) == (3, ("ham", "spam"))
    skipped = {each.why: (each.count, each.first) for each in arrays.understood.skipped}
    assert skipped["of the unknown kind .eml"] == (1, ("spam/2.eml",))
    assert skipped["outside the class folders"] == (1, ("list.csv",))
    assert skipped["hidden, or left behind by other programs"][0] == 3
    assert any("1 of 3 texts are empty" in note and "3.txt" in note for note in arrays.understood.notes)


@pytest.mark.parametrize(("separator", "encoding"), [(";", "latin-1"), ("\t", "utf-16"), ("|", None)])
def test_texts_in_csv_of_other_dialects(tmp_path, separator, encoding):
    text = f'text{separator}label\n"caf\u00e9, ja"{separator}NA\n\nth\u00e9{separator}01\n'
    (tmp_path / "a.csv").write_bytes(text.encode(encoding or "utf-8"))
    arrays = Texts(str(tmp_path / "a.csv"), str(tmp_path / "a.csv"), encoding=encoding).load("train")
    assert arrays.class_names == ("01", "NA")
    assert arrays.x.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert arrays.y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("txt,label\nhello,0\n", "no column 'text'; did you mean 'txt'"),
        ("text,class\nhello,0\n", "no column 'label'"),
        ("text,label\nhello,0\nbye,\n", "line 3: expected a label, found none"),
        ("text,label\n.,0\n?,1\n", "expected words in the training texts"),
        ("", "not a readable CSV file"),
        ('text,label\n"hello,0\n', "not a readable CSV file"),
    ],
)
def test_bad_csv(tmp_path, text, says):
    path = csv(tmp_path / "a.csv", text)
    with pytest.raises(RequestError, match=says) as caught:
        Texts(path, path).load("train")
    assert "\n" not in str(caught.value)


def test_bad_parquet_and_folders(tmp_path):
    path = write_texts(tmp_path / "a.parquet", ["hello", None], [0, 1])
    with pytest.raises(RequestError, match=r"a\.parquet, row 1: expected a text in 'text', got None"):
        Texts(path, path).load("train")
    with pytest.raises(RequestError, match=r"row 0: expected a text in 'label', got 0; name another column"):
        Texts(path, path, text="label").load("train")
    with pytest.raises(RequestError, match=r"no file .*gone\.parquet"):
        Texts(str(tmp_path / "gone.parquet")).load("train")
    with pytest.raises(RequestError, match=r"no file or folder .*gone \(looked from"):
        Texts(str(tmp_path / "gone")).load("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"empty: expected one folder a class, found none; sort the \.txt files"):
        Texts(str(tmp_path / "empty")).load("train")


# mail


def test_mail_is_learnt_and_cached(tmp_path):
    from sklearn.linear_model import LogisticRegression

    path = write_mails(tmp_path / "mails.csv", [mail for week in range(3) for mail in mail_round(week)])
    data = DataModule(Texts(path, features=300), name="mail")
    data.setup()
    assert (len(data.train), len(data.val), len(data.test)) == (432, 48, 120)
    assert data.class_names == ("ham", "spam")
    model = LogisticRegression(max_iter=500).fit(data.train.x, data.train.y)
    assert 0.85 < model.score(data.test.x, data.test.y) < 1
    again = DataModule(Texts(path, features=300), name="mail")
    again.setup()
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    assert again.fingerprint == data.fingerprint


def test_rounds_of_mail():
    first = mail_round(0, 50, seed=1)
    assert first == mail_round(0, 50, seed=1)
    assert first != mail_round(0, 50, seed=2)
    assert [mail.text for mail in first] != [mail.text for mail in mail_round(1, 50, seed=1)]
    times = [mail.time for mail in [*first, *mail_round(1, 50, seed=1)]]
    assert times == sorted(times)
    assert sum(mail.label == "spam" for mail in first) == 25
