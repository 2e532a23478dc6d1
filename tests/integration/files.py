"""What two runs must have in common, bit for bit."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

__all__ = ["left", "sha256", "untimed_metrics"]

TIMES = ("seconds", "attack_share", "samples_per_second")


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def untimed_metrics(run: Path) -> list[dict[str, str]]:
    """metrics.csv as text, but for what a clock said."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def left(folder: Path) -> set[str]:
    """Every file below a folder but the cache of decoded data, which reading alone fills."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "cache"
    }
