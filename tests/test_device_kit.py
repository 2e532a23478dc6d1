"""The device kit, rehearsed on the CPU, and what it prints where parts fail or run out of time."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent
CHECK = runpy.run_path(str(ROOT / "scripts" / "device" / "check"))


def test_the_table_hides_no_failure() -> None:
    found = {"rehearsal": False, "device": "H100", "torch": "2.11", "python": "3.12", "seconds": 300.0}
    row = {"attack": "all", "search": "bfloat16", "ours": 0.5, "seconds": 10.0}
    parts = {
        "tests": {"status": 1, "seconds": 9.0, "figures": {"passed": 8, "failures": 2}},
        "steps": {"status": 2, "seconds": 1.0, "last_lines": ["error"]},
        "autoattack": {"status": 124, "seconds": 140.0, "figures": {"count": 256, "rows": [row]}},
    }
    lines = CHECK["table"](found | {"parts": parts})
    assert "| tests | FAILED with 1 | 9 s |" in lines
    assert "| tests | failures | 2 |" in lines
    assert "| steps | FAILED with 2 | 1 s |" in lines
    assert "| autoattack | OUT OF TIME | 140 s |" in lines
    assert "not measured in the time there was" in lines[-1]
    assert lines[0].startswith("H100")


def test_the_shares_of_time_fit_the_promise() -> None:
    assert sum(CHECK["SHARES"].values()) <= 9 * 60


@pytest.mark.data
def test_rehearsal(tmp_path: Path) -> None:
    """Every part on the CPU in miniature, by the script itself; and the halves of CIFAR-10, cut and joined."""
    kit = [sys.executable, ROOT / "scripts" / "device" / "check", "--rehearse", "--out", tmp_path / "out"]
    done = subprocess.run([*kit, "--carried", tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "check.json").read_text())
    assert found["rehearsal"] is True
    assert [part["status"] for part in found["parts"].values()] == [0, 0, 0, 0]
    assert found["parts"]["tests"]["figures"]["failures"] == 0
    assert found["parts"]["steps"]["figures"]["rows"].keys() == {"bare", "robustml", "torchattacks"}
    assert found["parts"]["autoattack"]["figures"]["rows"][0]["agreement"] > 0.5
    assert done.stdout.rstrip().splitlines()[4].startswith("REHEARSAL")


@pytest.mark.data
def test_the_halves_are_the_whole(tmp_path: Path) -> None:
    if (folder := os.environ.get("ROBUSTML_DATA")) is None:
        pytest.skip("ROBUSTML_DATA is not set: no local copies of the real sets")
    halves = runpy.run_path(str(ROOT / "scripts" / "device" / "pack"))["halves"]
    source = Path(folder) / "mnist"  # the same layout, a sixth of the size
    halves.__globals__["CARRIED"] = tmp_path
    halves(source)
    kit = CHECK["Kit"](tmp_path / "out", tmp_path, rehearse=False)
    assert kit.data() == ["experiment=cifar10_pgd", f"data.root={tmp_path / 'out' / 'data'}"]
    whole = pq.read_table(source / "train.parquet")
    joined = tmp_path / "out" / "data" / "cifar10"
    train, test = (pq.read_table(joined / f"{part}.parquet") for part in ("train", "test"))
    assert train.equals(whole.slice(0, len(whole) - len(test)))
    assert test.equals(whole.slice(len(whole) - len(test)))
    assert train.schema.metadata == whole.schema.metadata, "the names of the classes travel along"
