"""What a scan passes, files that torch, numpy, joblib and safetensors have written, and what it refuses, by name."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from integration.forks import command

from robustml.errors import RequestError
from robustml.scanning import scan
from scanning import corpus, weights

BAD = corpus.bad()


@pytest.mark.parametrize("name", BAD)
def test_refused_and_named(name: str, tmp_path: Path) -> None:
    content, said = BAD[name]
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    found = scan(path)
    lines = [str(finding) for finding in found.findings]
    assert any(said in line for line in lines), lines
    assert all(line.isprintable() for line in lines)


def test_weights_pass(tmp_path: Path) -> None:
    files = weights.good(tmp_path)
    assert {name: [*map(str, scan(path).findings)] for name, path in files.items()} == {name: [] for name in files}
    whole = scan(tmp_path)
    assert not whole.findings
    assert {"torch", "torch, before 1.6", "pickle", "joblib", "array", "zip", "safetensors", "text"} <= {
        *whole.files.values()
    }


def test_folders_are_looked_through(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights.png").write_bytes(corpus.PRINT)
    (tmp_path / "a" / "code.py").write_text("x = 1\n")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "in").symlink_to("a")
    said = [str(finding) for finding in scan(tmp_path).findings]
    assert said == [
        "out: is a link that leads out of the folder",
        "a/code.py: is code, by its name",
        "a/weights.png: would call builtins.print()",
    ]
    with pytest.raises(RequestError, match="No such file"):
        scan(tmp_path / "gone")


def test_large_files_take_no_memory(tmp_path: Path) -> None:
    """A pickle of 300 MB in one value, and one of many values."""
    path = tmp_path / "large.pkl"
    with path.open("wb") as file:
        file.write(b"\x80\x04\x8e" + (300 * 2**20).to_bytes(8, "little"))
        file.truncate(11 + 300 * 2**20)
        file.seek(0, 2)
        file.write(b"0" + corpus.PRINT[2:])
    tracemalloc.start()
    found = scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.named == ["builtins.print"]
    assert peak < 8 * 2**20


@pytest.mark.parametrize("opcodes", [b"(", b"N0", b"}\x94", b"K\x01\x85"])
def test_long_pickles_are_given_up(opcodes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustml.scanning.windows._OPCODES", 50_000)
    (tmp_path / "x").write_bytes(corpus.PROTO4 + opcodes * 60_000 + b"N.")
    assert "is too much for a scan" in str(scan(tmp_path / "x").findings[0])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(corpus.IMPORT)
    report = tmp_path / "report.json"
    done = command("model", "scan", path, f"out={report}", cwd=tmp_path)
    assert done.status == 1
    assert done.out.splitlines()[0] == "refused: evil.pkl: would call importlib.import_module('this')"
    written = json.loads(report.read_text())
    assert written["refused"] is True
    assert written["findings"][0]["name"] == "importlib.import_module"
    (tmp_path / "fine.txt").write_text("fine")
    assert command("model", "scan", tmp_path / "fine.txt", cwd=tmp_path).status == 0
    for words in (("gone",), ("evil.pkl", "report.json")):
        assert command("model", "scan", *words, cwd=tmp_path).status == 2
