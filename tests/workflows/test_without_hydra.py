"""Everything that the command line does can be done from a notebook, which never imports Hydra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("notebook.py")


def test_a_notebook_needs_no_hydra(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "hydra: []"
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 2
    assert "__main__.Net was an object of the caller's" in refused[0]
    assert "another architecture than Linear" in refused[1]
