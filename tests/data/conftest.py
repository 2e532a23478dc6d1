"""Tiny sets on disk, and a cache of their own for every test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustml.data import Records


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTML_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def local_sets() -> Path:
    """The folder of real sets; set but incomplete is a failure, not a skip."""
    folder = os.environ.get("ROBUSTML_DATA")
    if not folder:
        pytest.skip("ROBUSTML_DATA is not set: no local copies of the real sets")
    for name in ("mnist", "cifar10"):
        for part in ("train", "test"):
            assert (Path(folder) / name / f"{part}.parquet").is_file(), f"ROBUSTML_DATA has no {name}/{part}.parquet"
    return Path(folder)


@pytest.fixture
def no_local_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBUSTML_DATA", raising=False)


@pytest.fixture
def toy() -> Callable[..., Records]:
    """Make a set whose images all differ: row `i` is filled with value `i`."""

    def make(count: int = 50, channels: int = 1, side: int = 4) -> Records:
        x = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, side, side).contiguous()
        return Records(x, torch.arange(count) % 2, ("even", "odd"))

    return make
