"""Protect files: encrypted, in as many shards as there are places, of which any `need` give them back."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from robustml.errors import RequestError, RunFailed
from robustml.files import opened
from robustml.integrity.names import check_names
from robustml.integrity.protection.datakey import DataKey, alone, key_path, new_key, read_key
from robustml.integrity.protection.erasure import Chunk, encode
from robustml.integrity.protection.heads import Cipher, Entry, Head, chunk_of
from robustml.integrity.protection.places import Place, PlaceFailed, everywhere, holds, places_of
from robustml.integrity.protection.shards import NewShards
from robustml.integrity.protection.shelves import Shelf, clean, head_name, look, publish, refused, standing
from robustml.progress import track

_CHUNK, _STRIPE = 2**18, 2**22


@dataclass(frozen=True)
class Protected:
    """What was protected.

    Attributes:
        name: of the set.
        version: of it in these places, from 1.
        digest: over the names and digests of all its files, as ``sha256:<hex>``.
        files: how many.
        size: their bytes.
        stored: bytes in all places together.
        new_key: the file of the key that was made, where there was none.
    """

    name: str
    version: int
    digest: str
    files: int
    size: int
    stored: int
    new_key: Path | None


def protect(
    files: Mapping[str, Path] | Iterable[Path],
    places: Sequence[str],
    need: int,
    key: str | Path,
    *,
    name: str = "data",
    timeout: float = 30.0,
) -> Protected:
    """Spread files over places, encrypted (AES-256-GCM) and coded (Reed-Solomon).

    What the places hold afterwards is new under a new name, until every place has all of its shard; then heads are
    written, and what was there before is removed. A crash leaves the old version or the new one; what it leaves behind
    is removed the next time. The files are read once, and memory does not grow with them.

    Args:
        files: the files, and folders that count although they are empty, by the names that they get back when they are
            restored; or their paths, whose names are then relative to the folder that all lie in.
        places: URLs for fsspec, or folders: one a shard, and the order counts.
        need: how many of them are to suffice.
        key: the file of the data key, or its folder; made where there is none. It must lie in none of the places:
            without it nothing can be read, by nobody.
        name: what the set is called. Places hold one set.
        timeout: seconds after which a place that does not answer is taken for slow.

    Raises:
        RequestError: a wrong number, a place twice, another set in the places, a name that some system does not take.
        RunFailed: a place did not take its shard. Nothing was changed then, or the line says what was.
    """
    named = dict(files) if isinstance(files, Mapping) else relative(files)
    if not named:
        raise RequestError("there is no file to protect")
    check_names(named, "the set")
    with places_of(places, timeout) as opened_places:
        if not 1 <= need <= len(places):
            raise RequestError(f"need={need} of {len(places)} places: expected 1 to {len(places)}")
        path = key_path(key)
        if inside := next((place for place in opened_places if holds(place, path)), None):
            raise RequestError(f"the key {path} would lie in the place {inside}, with what it opens: keep it elsewhere")
        with alone(path):
            return _protected(named, opened_places, need, path, name)


def relative(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their paths relative to the folder that all of them lie in."""
    absolute = [Path(os.path.abspath(path)) for path in paths]
    if not absolute:
        return {}
    root = Path(os.path.commonpath([path.parent for path in absolute]))
    return {path.relative_to(root).as_posix(): path for path in absolute}


def _protected(named: dict[str, Path], places: list[Place], need: int, path: Path, name: str) -> Protected:
    sizes = _sizes(named)
    key, is_new = (read_key(path), False) if path.exists() else (new_key(path), True)
    shelves = look(places, key)
    if down := {shelf.number: str(shelf.wrong) for shelf in shelves if shelf.down}:
        raise _refusal(shelves, down, "nothing was changed")
    before = standing(shelves, key)
    if before is not None and before.name != name:
        raise RequestError(
            f"the places hold the set {before.name!r}: choose others, or name={before.name!r} to put this in its place"
        )
    if is_new:
        key.write()
    for shelf in shelves:
        own = shelf.head(before.group) if before is not None else None
        clean(shelf, before, {own[0], own[1].file} if own is not None else set())
    known = [head for shelf in shelves for _, head in shelf.heads]
    series = next((head.series for head in [*([before] if before else ()), *known] if head.name == name), None)
    series = series or secrets.token_hex(16)
    seen = [head.version for head in known if head.series == series]
    head = Head(
        series=series,
        name=name,
        version=1 + max([*seen, key.newest_seen(series)]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        shard=0,
        places=len(places),
        need=need,
        chunk=min(_CHUNK, _STRIPE // need & ~1),
        salt=secrets.token_hex(32),
        tag="00",
        files=tuple(Entry(name=name, size=size, sha256="0" * 64) for name, size in sizes.items()),
        folders=tuple(name for name, path in named.items() if path.is_dir()),
    )
    shards = NewShards(dict(enumerate(places)), head.version)
    whole = False
    try:
        digests = _write(head, [named[name] for name in sizes], shards, Cipher(key, head))
        if shards.failed:
            raise _refusal(shelves, shards.failed, "nothing was changed")
        whole = True
    finally:
        if not whole:  # afterwards a head may be on its way, which promises that they are there
            shards.remove()
    entries = [entry.model_copy(update={"sha256": digest}) for entry, digest in zip(head.files, digests, strict=True)]
    head = head.model_copy(update={"files": tuple(entries)})
    missing = _publish(shelves, shards, head, key)
    key.remember(series, head.version)
    for shelf in shelves:
        if shelf.number not in missing:
            clean(shelf, head, {head_name(head.version, []), shards.files[shelf.number]})
    if missing:
        raise RunFailed(
            f"version {head.version} of {name!r} stands, but not in all places ({refused(shelves, missing)}): "
            "robustml data restore heals them once they take files again"
        )
    stored = head.shard_size * len(places)
    return Protected(name, head.version, head.digest, len(sizes), head.size, stored, path if is_new else None)


def _sizes(named: Mapping[str, Path]) -> dict[str, int]:
    try:
        return {name: path.stat().st_size for name, path in named.items() if not path.is_dir()}
    except OSError as error:
        raise RequestError(f"cannot read {error.filename}: {error.strerror}") from error


def _refusal(shelves: list[Shelf], wrong: dict[int, str], left: str) -> RunFailed:
    return RunFailed(
        f"{len(shelves) - len(wrong)} of {len(shelves)} places take their shard, and all must "
        f"({refused(shelves, wrong)}); {left}"
    )


def _write(head: Head, paths: list[Path], shards: NewShards, cipher: Cipher) -> list[str]:
    """Write all shards; returns the digests of the files."""
    digests: list[str] = []
    sizes = [entry.size for entry in head.files]
    pieces = _pieces(paths, sizes, head.stripe, digests)
    for stripe in track(range(head.stripes), f"protecting {head.name}"):
        data = cut(next(pieces), head.need)
        for number, chunk in enumerate([*data, *encode(data, head.places)]):
            shards.write(number, cipher.seal(number, stripe, chunk))
        if shards.failed:
            return digests
    assert next(pieces, None) is None
    shards.finish(head.shard_size)
    return digests


def cut(piece: bytes | bytearray | memoryview, need: int) -> list[Chunk]:
    """The bytes of a stripe in `need` chunks, filled up with zeros."""
    chunk = chunk_of(len(piece), need)
    if len(piece) != chunk * need:
        piece = bytes(piece).ljust(chunk * need, b"\0")
    return list(np.frombuffer(piece, np.uint16).reshape(need, -1))


def _pieces(paths: list[Path], sizes: list[int], length: int, digests: list[str]) -> Iterator[memoryview]:
    """The bytes of all files, so many at once; the digest of each file is appended when it was read."""
    buffer = memoryview(bytearray(length))
    filled = 0
    for path, size in zip(paths, sizes, strict=True):
        digest, left = hashlib.sha256(), size
        with opened(path) as file:
            while left:
                count = file.readinto(buffer[filled : min(length, filled + left)])
                if not count:
                    break
                digest.update(buffer[filled : filled + count])
                filled, left = filled + count, left - count
                if filled == length:
                    yield buffer
                    filled = 0
            if left or file.read(1):
                raise RunFailed(f"{path} was changed while it was read: protect the set again; nothing was changed")
        digests.append(digest.hexdigest())
    if filled:
        yield buffer[:filled]


def _publish(shelves: list[Shelf], shards: NewShards, head: Head, key: DataKey) -> dict[int, str]:
    """Write the heads: the version stands once `need` places have theirs. Returns what went wrong in which place.

    Raises:
        RunFailed: too few took it; those that did were asked to take it back, and the old version stands.
    """
    asked = {shelf.number: publish(shelf, shards.tags[shelf.number], head, key) for shelf in shelves}
    failed: dict[int, str] = {}
    for number, future in asked.items():
        try:
            shelves[number].place.answer(future)
        except PlaceFailed as failure:
            failed[number] = str(failure)
    if len(shelves) - len(failed) >= head.need:
        return failed
    name = head_name(head.version, [])
    everywhere([shelf.place for shelf in shelves if shelf.number not in failed], lambda place: place.store.remove(name))
    raise _refusal(shelves, failed, "the version that was there before stands")
