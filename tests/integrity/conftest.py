"""A signer with a trust store, and a folder with something in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustml.integrity.keys import PASSPHRASE, make_keys
from robustml.integrity.trust import own_key


def new_signer(folder: Path, name: str) -> Path:
    own_key(folder, make_keys(folder), name)
    return folder


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch):
    monkeypatch.delenv(PASSPHRASE, raising=False)


@pytest.fixture
def alice(tmp_path):
    return new_signer(tmp_path / "alice", "alice")


@pytest.fixture
def mallory(tmp_path):
    return new_signer(tmp_path / "mallory", "mallory")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "m"
    (folder / "in").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "in" / "records.parquet").write_bytes(bytes(range(256)))
    return folder
