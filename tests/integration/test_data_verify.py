"""`robustml data manifest`, `sign`, `verify` and `diff` at the command line: exit 0, 1 and 2, and what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from workflows.tampering import digits, made, rewritten, write

from integration.forks import command

PLACE = ("data=parquet", "data.source.train=set/train.parquet", "data.source.test=set/test.parquet")


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A set, a manifest of it, and the keys that signed it."""
    folder = tmp_path_factory.mktemp("signed")
    made(folder / "set")
    for words in (
        ("keys", "new", "out=keys", "name=alice"),
        ("data", "manifest", *PLACE, "out=m", "source=UCI, 1998: digits", "licence=CC-BY-4.0", "revision=1.0"),
        ("data", "sign", "manifest=m", "key=keys"),
    ):
        outcome = command(*words, cwd=folder)
        assert (outcome.status, outcome.err) == (0, ""), outcome
    return folder


@pytest.fixture
def place(signed, tmp_path):
    return shutil.copytree(signed, tmp_path / "copy")


def verify(place: Path, *words: str, trust: str | None = "keys"):
    given = () if trust is None else (f"trust={trust}",)
    return command("data", "verify", *PLACE, "manifest=m", *given, *words, cwd=place)


def altered(pictures: list[bytes], labels: list[int]) -> None:
    labels[17] = 3 if labels[17] != 3 else 4
    pictures[20] = digits(1, 1500)[0][0]


def test_what_is_as_signed_passes_and_what_is_not_is_named(place):
    said = json.loads((place / "m" / "manifest.json").read_text())
    assert (said["source"], said["licence"], said["revision"]) == ("UCI, 1998: digits", "CC-BY-4.0", "1.0")
    good = verify(place, "out=report.json")
    assert (good.status, good.err) == (0, "")
    assert "as signed: 200 records" in good.out
    assert "signed by alice" in good.out
    assert json.loads((place / "report.json").read_text())["same"] is True

    rewritten(place / "set" / "train.parquet", altered)
    was = digits(18)[1][17]
    found = verify(place, "out=report.json")
    assert (found.status, found.err) == (1, "")
    assert f"train 17: label {was} -> {3 if was != 3 else 4}" in found.out.splitlines()
    assert "train 20: input" in found.out.splitlines()
    report = json.loads((place / "report.json").read_text())
    assert [(one["record"], one["fields"]) for one in report["records"]] == [
        ("train 17", ["label"]),
        ("train 20", ["input"]),
    ]
    assert report["old"]["signed_by"] == "alice"

    rewritten(place / "set" / "train.parquet", lambda pictures, labels: (pictures.reverse(), labels.reverse()))
    many = verify(place, "most=5", "out=report.json")
    assert many.status == 1
    assert len(many.out.splitlines()) < 12
    assert len(json.loads((place / "report.json").read_text())["records"]) == 160


def test_a_manifest_that_nobody_trusted_signed_counts_for_nothing(place):
    assert command("keys", "new", "out=other", "name=mallory", cwd=place).status == 0
    for trust, said in (("other", "by a stranger"), (None, "nobody whom you said to trust")):
        outcome = verify(place, trust=trust)
        assert outcome.status == 1, outcome
        assert said in outcome.out + outcome.err
    assert verify(place, "unsigned=true", trust=None).status == 0

    older = shutil.copytree(place / "m", place / "older")
    for words in (("data", "manifest", *PLACE, "out=m"), ("data", "sign", "manifest=m", "key=keys")):
        if words[1] == "sign":
            unsigned = verify(place)
            assert (unsigned.status, len(unsigned.err.splitlines())) == (1, 1)
        assert command(*words, cwd=place).status == 0
    assert verify(place).status == 0
    shutil.rmtree(place / "m")
    shutil.copytree(older, place / "m")
    replayed = verify(place)
    assert (replayed.status, len(replayed.err.splitlines())) == (1, 1)
    assert "a replay" in replayed.err

    (place / "m" / "records.parquet").write_bytes(b"PAR1")
    forged = verify(place, trust="keys")
    assert (forged.status, len(forged.err.splitlines())) == (1, 1)
    assert "records.parquet" in forged.err


def test_wrong_requests(place):
    for words, said in (
        (("manifest=nothing",), "no manifest in nothing"),
        (("trust=nothing",), "nothing"),
        (("data.source.train=nowhere/train.parquet",), "no folder nowhere"),
        (("out=report.txt",), "must end in .json or .html"),
        (("unsigned=perhaps",), "unsigned must be true or false"),
    ):
        outcome = verify(place, *words)
        assert outcome.status == 2, (words, outcome)
        assert said in outcome.err
        assert len(outcome.err.splitlines()) == 1
    outcome = command("data", "manifest", *PLACE, "out=set", cwd=place)
    assert (outcome.status, "something else than a manifest" in outcome.err) == (2, True)
    outcome = command("data", "diff", "old=m", cwd=place)
    assert (outcome.status, "expected something to compare with" in outcome.err) == (2, True)


def test_a_diff_names_records_fields_and_signers_and_draws_the_pictures(place):
    rewritten(place / "set" / "train.parquet", altered)
    write(place / "set" / "test.parquet", *digits(39, 1000), "none")
    assert command("data", "manifest", *PLACE, "out=m2", "revision=2", cwd=place).status == 0
    outcome = command("data", "diff", "old=m", "new=m2", "trust=keys", *PLACE, "out=diff", cwd=place)
    assert (outcome.status, outcome.err) == (0, "")
    assert "alice" in outcome.out
    assert "test 39: deleted" in outcome.out.splitlines()
    report = json.loads((place / "diff" / "diff.json").read_text())
    assert [one["record"] for one in report["records"]] == ["train 17", "train 20", "test 39"]
    assert report["old"]["signed_by"] == "alice"
    assert report["new"]["trouble"]
    page = (place / "diff" / "diff.html").read_text()
    assert page.count("<img") == 2
    against = command("data", "diff", "old=m", *PLACE, "out=now.json", cwd=place)
    now = json.loads((place / "now.json").read_text())
    assert (against.status, now["records"]) == (0, report["records"])
