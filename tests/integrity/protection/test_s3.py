"""Places in object stores, over real HTTP: that are down, slow, lying or full."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from integrity.protection.conftest import CONTENT, NAMES, Kept, tree
from integrity.protection.s3 import Proxy, moto_server
from robustml.errors import RunFailed
from robustml.integrity.protection import protecting, stores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    process, port = moto_server(tmp_path_factory.mktemp("moto"))
    server = Proxy(port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    process.terminate()
    process.wait()


@pytest.fixture
def in_buckets(proxy: Proxy, tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Protected in six buckets."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    endpoint, proxy.behaviour = f"http://127.0.0.1:{proxy.server_port}", {}
    buckets = [f"{letter}-{time.time_ns()}" for letter in NAMES]
    for bucket in buckets:
        with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")):
            pass
    places = [f"s3://{bucket}/in/here?endpoint={endpoint}" for bucket in buckets]
    kept = Kept(tmp_path, places, tmp_path / "keys")
    kept.protect()
    yield kept
    proxy.behaviour = {}


def bucket(kept: Kept, place: int) -> str:
    return kept.places[place].split("/")[2]


def test_six_buckets(in_buckets: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protecting, "_CHUNK", 2**18)
    in_buckets.content["large"] = np.random.default_rng(3).bytes(60 * 2**20)  # by parts: a shard is above 8 MiB
    assert in_buckets.protect().version == 2
    restored = in_buckets.restore()
    assert restored.wrong == {}
    assert tree(in_buckets.root / "out") == in_buckets.content


def test_down_slow_and_lying_places_are_named(in_buckets: Kept, proxy: Proxy) -> None:
    for behaviour, said in (
        ("down", "down: "),
        ("slow", "slow: no answer in 2 s"),
        ("lies", "altered in stripe 7 of 7"),
    ):
        proxy.behaviour = {bucket(in_buckets, 1): behaviour, bucket(in_buckets, 4): "lies"}
        restored = in_buckets.restore(behaviour, timeout=2.0)
        assert restored.wrong[in_buckets.places[1]].startswith(said)
        assert "altered in stripe 7" in restored.wrong[in_buckets.places[4]]
        assert in_buckets.places[4] in restored.healed
        assert tree(in_buckets.root / behaviour) == CONTENT
        proxy.behaviour |= {bucket(in_buckets, 0): "down"}
        with pytest.raises(RunFailed, match=r"3 of its 6 shards are good, and 4 are needed .*; nothing was changed"):
            in_buckets.restore("no", timeout=2.0)
        assert not (in_buckets.root / "no").exists()
    proxy.behaviour = {}
    assert in_buckets.restore(None).wrong == {}


def test_a_protect_is_refused_by_one_place_and_leaves_the_others_as_they_were(in_buckets: Kept, proxy: Proxy) -> None:
    before = in_buckets.content
    in_buckets.content = {"other": b"other" * 1_000}
    for behaviour, said in (("down", "down: "), ("slow", "slow: no answer in 2 s"), ("full", "full: ")):
        proxy.behaviour = {bucket(in_buckets, 2): behaviour}
        with pytest.raises(
            RunFailed, match=rf"5 of 6 places .*{re.escape(in_buckets.places[2])}: {said}.*nothing was changed"
        ):
            in_buckets.protect(timeout=2.0)
    proxy.behaviour = {}
    restored = in_buckets.restore()
    assert restored.wrong == {}
    assert restored.version == 1
    assert tree(in_buckets.root / "out") == before


def test_a_head_is_created_once(in_buckets: Kept) -> None:
    store = stores.store_of(in_buckets.places[0], "x", 5.0)
    names = store.names()
    assert len(names) == 2
    with pytest.raises(FileExistsError):
        store.create(next(name for name in names if name.endswith(".head")), b"mine")
    assert in_buckets.restore().wrong == {}
