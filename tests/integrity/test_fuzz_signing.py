"""Whatever stands in a bundle, a trust store, a key or a log: one line of complaint, or what the signer wrote.

Inputs are near misses: valid ones, changed in bytes, in JSON values, or in JSON's own structure. How many were tried is
printed (`pytest -rP`); the slow profile tries 50 times as many.
"""

from __future__ import annotations

import base64
import copy
import json
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrity.conftest import new_signer
from robustml.errors import RequestError, RunFailed
from robustml.integrity.audit_log import append, verify_log
from robustml.integrity.bundle import read_bundle, read_statement
from robustml.integrity.entries import LONGEST, read_entry
from robustml.integrity.keys import public_of, read_private
from robustml.integrity.seen import SEEN, read_seen
from robustml.integrity.signing import SIGNATURE, check_folder, sign_folder
from robustml.integrity.trust import TRUST, Untrusted, check_serial, read_trust

PROFILES = [60, pytest.param(3_000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
TRIED: Counter[str] = Counter()

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw, good: bytes) -> bytes:
    """Some bytes of a valid file changed, cut, doubled, or put in."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.integers(0, 4))
        if how == 0 and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            del content[place : place + draw(st.integers(1, 40))]
        elif how == 2:
            content[place:place] = draw(st.binary(max_size=12))
        elif how == 3:
            content[place:place] = content[place : place + 60]
        else:
            del content[place:]
    return bytes(content)


@st.composite
def another(draw, good: bytes) -> bytes:
    """A valid JSON file with one of its values another, gone, or under another name."""
    content = json.loads(good)
    node, ways = content, draw(st.integers(1, 8))
    for _ in range(ways):
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if draw(st.booleans()) and isinstance(node[key], dict | list) and node[key]:
            node = node[key]
            continue
        how = draw(st.integers(0, 2))
        if how == 0:
            node[key] = draw(JUNK)
        elif how == 1:
            del node[key]
        elif isinstance(node, dict):
            node[draw(st.text(max_size=10))] = draw(JUNK)
        break
    return json.dumps(content).encode()


def anything(good: bytes) -> st.SearchStrategy[bytes]:
    one_value = good[:1] == b"{" and good.strip().endswith(b"}") and b"}\n{" not in good
    return (
        damaged(good)
        | (another(good) if one_value else st.nothing())
        | st.binary(max_size=200)
        | JUNK.map(lambda junk: json.dumps(junk).encode())
    )


def tried(name: str, count: int, good: bytes, test) -> None:
    """Give a parser so many inputs; it may raise the two errors of ours, and no other."""

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(anything(good))
    def fuzz(content: bytes) -> None:
        TRIED[name] += 1
        with suppress(RequestError, RunFailed):
            test(content)

    fuzz()
    print(f"{name}: {TRIED[name]:,} inputs")


@pytest.mark.parametrize("count", PROFILES)
def test_bundles(folder, alice, count):
    trust = read_trust(alice)
    sign_folder(folder, alice)
    good = (folder / SIGNATURE).read_bytes()
    payload = read_bundle(good.decode(), "it").payload

    def check(content):
        (folder / SIGNATURE).write_bytes(content)
        checked = check_folder(folder, trust, "data")
        # Whatever was changed about it, what it says is what alice signed.
        assert (checked.signer.name, checked.changes, checked.files) == ("alice", {}, 2)
        assert read_bundle(content.decode(), "it").payload == payload

    tried("bundle", count, good, check)
    tried("statement", count, payload, lambda content: read_statement(content, "it"))
    # inside a bundle that is well formed, too
    whole = json.loads(good)

    def within(content):
        bundle = copy.deepcopy(whole)
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(content).decode()
        check(json.dumps(bundle).encode())

    tried("payload", count, payload, within)


@pytest.mark.parametrize("count", PROFILES)
def test_trust_stores(alice, count):
    good = (alice / TRUST).read_bytes()
    known = {key.signer.fingerprint for key in read_trust(alice).keys}

    def check(content):
        (alice / TRUST).write_bytes(content)
        assert {key.signer.fingerprint for key in read_trust(alice).keys} <= known

    tried("trust store", count, good, check)
    (alice / TRUST).write_bytes(good)
    trust = read_trust(alice)
    check_serial(trust, "mnist", 3)
    seen = (alice / SEEN).read_bytes()

    def serials(content):
        (alice / SEEN).write_bytes(content)
        read_seen(alice)

    tried("seen", count, seen, serials)


@pytest.mark.parametrize("count", PROFILES)
def test_keys(alice, tmp_path, count):
    tried("public key", count, (alice / "public.pem").read_bytes(), lambda content: public_of(content, "it"))
    path = tmp_path / "fuzzed.pem"
    path.touch(mode=0o600)

    def private(content):
        path.write_bytes(content)
        read_private(path)

    tried("private key", count, (alice / "private.pem").read_bytes(), private)


@pytest.mark.parametrize("count", PROFILES)
def test_logs(alice, tmp_path, count):
    log, key = tmp_path / "log", read_private(alice)
    for number in range(3):
        append(log, key, "signed", {"a": "sha256:" + "0" * 64}, {"number": number, "new": True})
    good, trust = log.read_bytes(), read_trust(alice)

    def entry(content):
        with suppress(ValueError):
            assert read_entry(content[:LONGEST]).line + b"\n" == content[:LONGEST]

    tried("entry", count, good.splitlines(keepends=True)[0], entry)

    def check(content):
        log.write_bytes(content)
        read = verify_log(log, trust)
        assert good.startswith(content)  # only the end can be cut off unseen
        assert read.entries == content.count(b"\n")

    tried("log", count, good, check)

    def appended(content):
        """Whatever a log had become, an entry is added as it should be, or nothing is."""
        log.write_bytes(content)
        try:
            append(log, key, "signed", {}, {})
        except RunFailed:
            assert log.read_bytes() == content
            raise
        assert log.read_bytes().startswith(content[: content.rfind(b"\n") + 1])
        assert log.read_bytes().endswith(b"\n")

    tried("append", count // 2, good, appended)


def test_a_bundle_by_a_stranger_is_never_believed(folder, alice, tmp_path):
    """The same fuzzing where nothing at all may pass."""
    sign_folder(folder, new_signer(tmp_path / "stranger", "stranger"))
    good, trust = (folder / SIGNATURE).read_bytes(), read_trust(alice)

    def check(content):
        (folder / SIGNATURE).write_bytes(content)
        with pytest.raises(Untrusted):
            check_folder(folder, trust, "data")

    tried("bundle of a stranger", 60, good, check)
