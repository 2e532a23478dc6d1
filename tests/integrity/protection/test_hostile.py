"""What a stranger may have written: heads, keys and notes of any bytes are refused in one way, and never obeyed."""

from __future__ import annotations

import json
import os
import random
import secrets
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrity.protection.conftest import kept_in_memory
from robustml.errors import RequestError, RunFailed
from robustml.integrity.names import wrong_with
from robustml.integrity.protection import heads
from robustml.integrity.protection.datakey import DataKey, read_key
from robustml.integrity.protection.heads import Entry, Head, Unreadable, open_head, seal_head

KEY = DataKey(Path("data.key"), bytes(range(32)))
HEAD = Head(
    series="ab",
    name="x",
    version=1,
    created="",
    shard=0,
    places=6,
    need=4,
    chunk=512,
    salt="00",
    tag="00",
    files=(Entry(name="a/b", size=9, sha256="0" * 64),),
    folders=(),
)
SEALED = seal_head(HEAD, KEY)
FAST = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sealed(told: bytes) -> bytes:
    """What whoever has the key could write."""
    nonce, start = secrets.token_bytes(12), SEALED[:16]
    return start + nonce + KEY.cipher(b"head").encrypt(nonce, told, start)


def safe(content: bytes) -> bool:
    """Refused in the one way there is, or a head whose names can do no harm."""
    try:
        head = open_head(content, KEY)
    except Unreadable:
        return True
    return not any(wrong_with(name) for name in [*(entry.name for entry in head.files), *head.folders])


@given(st.binary(min_size=1, max_size=400))
@FAST
def test_any_bytes(content: bytes) -> None:
    for each in (content, SEALED[:8] + content, SEALED[:16] + content, SEALED[:28] + content, SEALED + content):
        with pytest.raises(Unreadable):
            open_head(each, KEY)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255), st.integers(0, len(SEALED)))
@FAST
def test_a_head_that_was_changed_anywhere(place: int, change: int, length: int) -> None:
    altered = SEALED[:place] + bytes([SEALED[place] ^ change]) + SEALED[place + 1 :]
    for each in (altered, altered[:length], SEALED[:length] if length < len(SEALED) else altered):
        with pytest.raises(Unreadable):
            open_head(each, KEY)
    assert open_head(SEALED, KEY) == HEAD


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(Head.model_fields)), VALUES, st.binary(max_size=60))
@FAST
def test_a_head_by_whoever_has_the_key_is_checked_all_the_same(field: str, value: object, content: bytes) -> None:
    told = json.loads(HEAD.model_dump_json()) | {field: value}
    assert safe(sealed(zlib.compress(json.dumps(told).encode())))
    assert safe(sealed(content))
    assert safe(sealed(zlib.compress(content)))


@pytest.mark.parametrize(
    "names",
    [["../a"], ["/etc/passwd"], ["a", "A"], ["a", "a/b"], ["a\\b"], ["nul"], ["é", "é"], [""], ["a\nb"]],
)
def test_hostile_names_are_refused(names: list[str]) -> None:
    files = tuple(Entry(name=name, size=0, sha256="0" * 64) for name in names)
    for changed in ({"files": files}, {"files": (), "folders": tuple(names)}):
        with pytest.raises(Unreadable, match="does not know"):
            open_head(seal_head(HEAD.model_copy(update=changed), KEY), KEY)


def test_a_head_that_unpacks_to_far_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_LARGEST_UNPACKED", 1000)
    with pytest.raises(Unreadable, match="does not know"):
        open_head(sealed(zlib.compress(b" " * 1000 + HEAD.model_dump_json().encode())), KEY)


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
@FAST
def test_any_key_file_and_note(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.key"
    whole = {"format": "robustml data key, version 1", "scrypt": {"n": 2**40, "r": 8, "p": 1}, "salt": "", "sealed": ""}
    os.environ["ROBUSTML_KEY_PASSPHRASE"] = "x"
    try:
        for each in (
            content,
            json.dumps(whole | {"key": content.decode("latin-1")}).encode(),
            json.dumps(whole).encode(),
        ):
            path.write_bytes(each)
            path.chmod(0o600)
            with pytest.raises(RequestError):
                read_key(path)
    finally:
        del os.environ["ROBUSTML_KEY_PASSPHRASE"]
    key = DataKey(path, bytes(32))
    key.note.write_bytes(content)
    with suppress(RequestError):
        assert key.newest_seen("x") >= 0


@given(st.permutations(range(6)), st.binary(max_size=300))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_two_places_are_healed_and_in_three_refused(
    tmp_path: Path, small_chunks: None, order: list[int], content: bytes
) -> None:
    with kept_in_memory(tmp_path) as kept:
        kept.lie(order[0], ".head", lambda old: content + old[len(content) + 1 :])
        kept.lie(order[1], ".shard", lambda old: content + old[len(content) + 1 :])
        assert sorted(kept.restore(None).healed) == sorted(kept.places[number] for number in order[:2])
        assert kept.restore(None).wrong == {}
    with kept_in_memory(tmp_path) as kept:
        for number, ending in zip(order, (".head", ".head", ".shard"), strict=False):
            kept.lie(number, ending, lambda _: content)
        with pytest.raises(RunFailed):
            kept.restore()
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_hundred_thousand_heads() -> None:
    """Bytes of any kind, whole heads with some changed, cut or put in, and what whoever has the key could write."""
    drawn, refused = random.Random(0), 0
    for number in range(100_000):
        content = bytearray(SEALED if number % 4 else drawn.randbytes(drawn.randrange(300)))
        for _ in range(drawn.randrange(1, 4)):
            place = drawn.randrange(len(content) + 1)
            content[place : place + drawn.randrange(9)] = drawn.randbytes(drawn.randrange(9))
        if number % 4 == 3:
            packed = bytearray(HEAD.model_dump_json().encode())
            packed[(place := drawn.randrange(len(packed))) : place + drawn.randrange(5)] = drawn.randbytes(
                drawn.randrange(5)
            )
            assert safe(sealed(zlib.compress(packed)))
        elif content != SEALED:
            with pytest.raises(Unreadable):
                open_head(bytes(content), KEY)
            refused += 1
    print(
        f"{refused:,} strangers' heads were refused (the others came out unchanged), 25,000 of the owner's did no harm"
    )
