"""A scan against what others say of the same files: picklescan, and an unpickler that notes what it looks up."""

from __future__ import annotations

import _compat_pickle
import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustml.scanning import scan
from robustml.scanning.allowed import Name, is_allowed
from robustml.scanning.pickles import is_identifier
from scanning import corpus, weights

BAD = corpus.bad()
SEEDS = [content for content, _ in BAD.values() if len(content) < 5000]
OPCODES = st.binary(max_size=3) | st.sampled_from(
    [
        *(bytes([code]) for code in b"(.012t]})Rb\x93\x94\x81\x85\x86ousaeQ"), b"h\0", b"q\0", b"\x80\x04", b"K\x01",
        b"cos\nx\n", b"ios\nx\n", b"\x95" + bytes(8), corpus.text("os"), corpus.text("getpid"), corpus.text("torch"),
        b"ctorch._utils\n_rebuild_tensor_v2\n", b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n", b"c__builtin__\nset\n",
    ]
)  # fmt: skip


@st.composite
def hostile(draw: Any) -> bytes:
    """Random opcodes, or a file of the corpus with bytes changed, cut out and put in."""
    if draw(st.booleans()):
        return b"".join(draw(st.lists(OPCODES, max_size=40)))
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(content)


def stub(called: Callable[[], object]) -> type:
    """What stands for a name that a pickle looks up: whatever is done with it, nothing happens."""

    class Inert:
        def __new__(cls, *_: Any, **__: Any) -> Any:
            called()
            return super().__new__(cls)

        def __call__(self, *_: Any, **__: Any) -> Any:
            return self

        def __setstate__(self, _: Any) -> None:
            pass

        def __setitem__(self, *_: Any) -> None:
            pass

        def append(self, _: Any) -> None:
            pass

        extend = add = append

    return Inert


class Unpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Python's own, which imports nothing, and notes what it was to look up and to call."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.names: set[Name] = set()
        self.called: set[Name] = set()

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        found = Name(module, name)
        self.names.add(found)
        return stub(lambda: self.called.add(found))

    def persistent_load(self, _: Any) -> Any:
        return stub(lambda: None)()

    def get_extension(self, code: int) -> None:
        self.append(self.find_class("copyreg", str(code)))


def unpickled(content: bytes) -> Unpickler:
    unpickler = Unpickler(content)
    with suppress(Exception):  # what it had looked up before counts
        unpickler.load()
    return unpickler


def fuzz(examples: int, path: Path) -> str:
    counts = {"files": 0, "looked up": 0, "passed": 0}

    @settings(max_examples=examples, deadline=5000, database=None)
    @given(hostile())
    def one(content: bytes) -> None:
        path.write_bytes(content)
        found = scan(path)
        theirs = unpickled(content)
        assert all(str(finding).isprintable() for finding in found.findings)
        if not found.findings:
            # a table that begins with "class" and "red" would import lass.red, and fail: of no pickle, calls count
            # which can be called so
            pickled = found.files["x"] in ("pickle", "joblib")
            names = theirs.names if pickled else set(filter(is_identifier, theirs.called))
            assert all(map(is_allowed, names)), names
        counts["files"] += 1
        counts["looked up"] += bool(theirs.names)
        counts["passed"] += not found.findings

    one()
    return ", ".join(f"{number} {what}" for what, number in counts.items())


def test_what_an_unpickler_looks_up_is_refused(tmp_path: Path) -> None:
    print(fuzz(400, tmp_path / "x"))


@pytest.mark.slow
def test_what_an_unpickler_looks_up_is_refused_at_length(tmp_path: Path) -> None:
    print(fuzz(15_000, tmp_path / "x"))


def test_every_listed_name_is_one_that_weights_need(tmp_path: Path) -> None:
    """Of torch's, those that its own reader of weights takes, and the kinds of storages, which it takes apart."""
    from torch._weights_only_unpickler import _get_allowed_globals

    from robustml.scanning.allowed import _LISTED

    ours = {f"{module}.{name}" for module, names in _LISTED.items() if module.startswith("torch") for name in names}
    theirs = set(_get_allowed_globals())
    assert {name for name in ours - theirs if not name.endswith("Storage")} == set()
    for path in weights.good(tmp_path).values():
        if path.suffix == ".pkl":
            assert all(map(is_allowed, unpickled(path.read_bytes()).names))


PICKLESCAN = """
import json, pathlib, sys
from picklescan.scanner import scan_file_path
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        print(json.dumps([path.name, scan_file_path(str(path)).issues_count]))
    except Exception as error:
        print(json.dumps([path.name, -1]))
"""


@pytest.fixture(scope="module")
def picklescan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the package that scans by a list of bad names."""
    folder = tmp_path_factory.mktemp("picklescan") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "picklescan==1.0.5"], check=True)
    return python


@pytest.mark.slow
def test_all_that_picklescan_flags_is_refused(picklescan: Path, tmp_path: Path) -> None:
    bad, fine = tmp_path / "bad", tmp_path / "fine"
    bad.mkdir()
    fine.mkdir()
    for place, (content, _) in enumerate(BAD.values()):
        (bad / f"{place}.pkl").write_bytes(content)
    weights.good(fine)
    counts = {}
    for folder in (bad, fine):
        done = subprocess.run([str(picklescan), "-c", PICKLESCAN, str(folder)], capture_output=True, check=True)
        theirs = dict(json.loads(line) for line in done.stdout.splitlines())
        ours = {path.name: bool(scan(path).findings) for path in folder.iterdir()}
        assert ours.keys() == theirs.keys()
        assert not [name for name, issues in theirs.items() if issues > 0 and not ours[name]]
        counts[folder.name] = (len(ours), sum(ours.values()), sum(issues > 0 for issues in theirs.values()))
    print(f"files, refused by us, flagged by picklescan 1.0.5: {counts}")
    assert counts["fine"] == (counts["fine"][0], 0, 0)
    named = {name: f"{place}.pkl" for place, name in enumerate(BAD)}
    assert not [1 for gadget in ("importlib.import_module", "torch.load") if theirs.get(named[f"gadget {gadget}"], 0)]
