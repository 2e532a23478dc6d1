"""What somebody else has written is read with bounds: configs and arrays."""

from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from robustml.errors import RequestError
from robustml.untrusted import read_arrays, read_yaml

NINE = "a: &a [x,x,x,x,x,x,x,x,x]\n"
BOMBS = {
    "references": NINE + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")),
    "itself": "a: &a {b: *a}",
    "deep": "a: " + "[" * 5_000,
    "deep by references": "".join(f"k{i}: &k{i} {'[' * 30}{f'*k{i - 1}' if i else 1}{']' * 30}\n" for i in range(20)),
    "wide": "a: [" + "1," * 10_000 + "]",
    "large": "a: " + "x" * 2**20,
    "digits": "a: " + "9" * 5_000,
    "bits": "a: 0x" + "f" * 5_000,
    "twice": "a: 1\na: 2",
    "python": "a: !!python/object/apply:os.system [ls]",
    "bytes": "a: !!binary aGk=",
    "no day": "a: 2020-99-99",
    "empty": "",
    "latin-1": "a: \udcff",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_configs_are_bounded(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(BOMBS[bomb].encode(errors="surrogateescape"))
    with pytest.raises(RequestError, match=r"none of ours|not valid YAML|is empty|not UTF-8|is larger"):
        read_yaml(path)


def test_a_config_of_before_with_references_to_itself_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("threat: &id001 {eps: 0.1}\nattack:\n  threat: *id001\nother:\n  <<: *id001\n  p: 2\n")
    content = read_yaml(path)
    assert content == {"threat": {"eps": 0.1}, "attack": {"threat": {"eps": 0.1}}, "other": {"eps": 0.1, "p": 2}}
    assert content["threat"] is not content["attack"]["threat"]


def as_npz(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


ARRAYS = {
    "shape": ({"x.npy": header("(1000000, 1000000)") + b"1"}, "claims"),
    "shape that comes round": ({"x.npy": header("(2**32, 2**32)".replace("2**32", str(2**32)))}, "claims"),
    "negative": ({"x.npy": header("(-1,)")}, "cannot be read"),
    "objects": ({"x.npy": header("(1,)", "'|O'") + pickle.dumps(1)}, "objects"),
    "code": ({"x.npy": header("(__import__('os').mkdir('canary'),)")}, "cannot be read"),
    "entries of no size": ({"x.npy": header("(10000000000,)", "'<U0'")}, "claims"),
    "zeros": ({"x.npy": header("(200000000,)") + bytes(200_000_000)}, "unpack"),
    "no array": ({"x.npy": b"text"}, "cannot be read"),
    "no header": ({"x.npy": b""}, "cannot be read"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_are_bounded(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    members, says = ARRAYS[case]
    path = as_npz(tmp_path / "examples.npz", members)
    tracemalloc.start()
    with pytest.raises(RequestError, match=says):
        read_arrays(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24, "made room for what the file claims"
    tracemalloc.stop()
    assert not (tmp_path / "canary").exists()


def test_arrays_that_keep_their_word_are_read(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez_compressed(file, x=np.zeros((64, 3, 8, 8)), names=np.array(["a", "bc"]), attack=np.array("pgd"))
    arrays = read_arrays(tmp_path / "a.npz")
    assert arrays["x"].shape == (64, 3, 8, 8)
    assert arrays["names"].tolist() == ["a", "bc"]
    assert str(arrays["attack"]) == "pgd"
    assert list(read_arrays(tmp_path / "a.npz", ["names"])) == ["names"]
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-100])
    with pytest.raises(RequestError, match=r"b\.npz cannot be read as arrays"):
        read_arrays(tmp_path / "b.npz")
