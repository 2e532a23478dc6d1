"""What was understood of a set is said: by `robustml data describe`, at the head of a run, and from the cache too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.tiny import png

from integration.forks import command
from robustml.data import Csv, DataModule, ImageFolder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"{row};{row % 5},5;x;{'?' if row == 3 else row % 3};{'no' if row % 2 else 'yes'}" for row in range(40)]
    (tmp_path / "a.csv").write_text("\n".join([";size;name;age;label", *rows, ""]))
    return tmp_path


def test_describe_says_what_a_run_would_use(table, monkeypatch):
    words = [
        "data",
        "describe",
        "data=csv",
        "data.source.train=a.csv",
        "data.source.missing=drop_rows",
        "data.val_size=3",
    ]
    first, cached = (command(*words, cwd=table) for _ in range(2))
    assert (first.status, first.err) == (0, "")
    assert cached.out == first.out
    said = first.out.splitlines()
    for line in (
        "read:   2 columns: size, age; 1 values missing; from 0 to 4.5, scaled to [0, 1]",
        "read:   ignored: Unnamed: 0 (without a name: an index), name (text, such as 'x')",
        "read:   separator ';' (found); decimal ',' (found)",
        "read:   note: 1 of 40 rows lack a number and are left out",
        "class  train  validation  test",
        "no     14     1           4",
        "yes    14     2           4",
        "size            0.5    4.5       5          0        0 to 1",
        "age             0      2         3          1        0 to 1",
        "name             text, such as 'x'",
    ):
        assert line in said
    data = DataModule(Csv("a.csv", missing="drop_rows"), name="x", val_size=3)
    monkeypatch.chdir(table)
    data.setup()
    assert f"all parts together: {data.fingerprint}" in said
    assert any(data.test.fingerprint() in line for line in said)
    assert [path.name for path in table.iterdir() if path.name != "cache"] == ["a.csv"]
    refused = command("data", "describe", "data=csv", "data.source.train=a.csv", cwd=table)
    assert refused.status == 2
    assert "a.csv, line 5: expected a number in 'age', got '?'" in refused.error
    assert "describe" in command("data", "descibe", cwd=table).error


def test_every_run_says_it(tmp_path):
    for row in range(24):
        path = tmp_path / "set" / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.full((8, 8), row, np.uint8)))
    (tmp_path / "set" / "a" / "x.heic").write_text("x")
    words = ["data=image_folder", f"data.source.train={tmp_path / 'set'}", "model=mlp", "debug=fast", "data.val_size=2"]
    out = command("train", *words, cwd=tmp_path).out
    assert "read:   skipped: 1 files, of the unknown kind .heic (a/x.heic)" in out
    assert "read:   pictures L 19, 8 x 8" in out
    assert "labels: a 9, b 8" in out or "labels: a 8, b 9" in out
    assert ImageFolder(str(tmp_path / "set")).load("train").understood.lines()[0] == "pictures L 19, 8 x 8"
