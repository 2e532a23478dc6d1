"""Names that a stranger wrote: whatever passes stays below its folder, on every file system."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustml.errors import RequestError
from robustml.integrity.names import below, check_names, files_below, fold, wrong_with

HOSTILE = [
    *(
        "",
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a//b",
        "a/",
        "/a",
        "//host/share",
        "C:a",
        "c:/a",
        "a\\b",
        "..\\a",
    ),
    *("a\0b", "a\nb", "a\x7f", "a\u202eb", "\ud800", "a\u200b", "nul", "NUL.txt", "a/con", "com1", "lpt¹.txt"),
    *("a.", "a ", "a./b", "x" * 256, "a/" * 3000 + "b"),
]
HARMLESS = [
    "a",
    "a/b.png",
    "..a",
    "a..b",
    ".hidden",
    "weights.safetensors",
    "käse/é.png",
    "name with space",
    "1:2",
    "console",
]
ALPHABET = st.sampled_from(
    ["a", "B", "b", ".", "..", "/", "\\", ":", "\0", " ", "é", "e\u0301", "ß", "SS", "con", "\u202e"]
)


@pytest.mark.parametrize("name", [*HOSTILE, None, 3, b"a"])
def test_what_leads_out_of_a_folder_or_means_a_device_is_refused(name):
    assert wrong_with(name)
    with pytest.raises(RequestError, match="manifest is refused"):
        check_names([name], "manifest")


@pytest.mark.parametrize("name", HARMLESS)
def test_an_ordinary_name_passes(name, tmp_path):
    assert wrong_with(name) is None
    assert below(tmp_path, name) == tmp_path / name


@given(st.lists(ALPHABET, max_size=8).map("".join))
def test_what_passes_stays_below_its_folder_here_and_on_windows(name):
    """By the standard library's own idea of paths."""
    if wrong_with(name) is None:
        assert not PureWindowsPath(name).is_absolute()
        assert not PureWindowsPath(name).drive
        assert os.path.normpath(name) == name == str(PurePosixPath(name))
        assert not os.path.isabs(name)
        assert ".." not in PurePosixPath(name).parts


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a"],
        ["a.png", "A.png"],
        ["é", "e\u0301"],
        ["straße", "STRASSE"],
        ["Cat/1", "cat/2"],
        ["a", "a/b"],
        ["a/b", "a"],
        ["\u212b", "å"],
    ],
)
def test_names_that_some_file_system_takes_for_one_are_refused(names):
    with pytest.raises(RequestError, match="is refused: it names"):
        check_names(names, "m")


def test_names_beside_each_other_pass():
    check_names(["a/1", "a/2", "b/1", "ab", "a.b"], "m")


@given(st.text(max_size=20))
def test_forms_of_one_name_fold_alike(name):
    for form in ("NFC", "NFD"):
        assert fold(unicodedata.normalize(form, name)) == fold(name)
    assert fold(fold(name)) == fold(name)


def test_links_pipes_and_devices_on_the_disk_are_refused(tmp_path):
    folder = tmp_path / "m"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"2")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "away").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    assert below(folder, "in/a").read_bytes() == b"1"
    for name in ("link", "away/secret", "pipe", "in", "in/a/b"):
        with pytest.raises(RequestError, match="is refused: it is"):
            below(folder, name)
    found = dict(files_below(folder))
    assert {name for name, wrong in found.items() if wrong is None} == {"in/a"}
    assert set(found) == {"in/a", "link", "away", "pipe"}
    assert set(dict(files_below(folder, {"in", "away"}))) == {"link", "pipe"}


def test_a_folder_may_be_reached_by_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").touch()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert below(Path(tmp_path / "alias"), "a").is_file()
