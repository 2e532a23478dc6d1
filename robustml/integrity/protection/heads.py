"""The head of a shard: what a place says of the set that it holds a part of, encrypted and authenticated.

    magic (8 bytes), name of the key (8), nonce (12), AES-256-GCM of the zlib-packed JSON of a `Head`

A head is written once its shards lie whole in every place, so that an authentic one proves that they did. The shard
itself is one sealed chunk a stripe: AES-256-GCM under a key of this version alone, with the numbers of shard and stripe
as the nonce. A chunk of another set, version, shard or stripe does not open, nor does one with a bit changed: its tag
is the digest by which damage is located, and nobody without the key can make one. Healing encrypts the same chunk under
the same key and nonce, which gives the same bytes.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from cryptography.exceptions import InvalidTag
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustml.errors import RequestError
from robustml.integrity.names import check_names
from robustml.integrity.protection.datakey import DataKey
from robustml.integrity.protection.erasure import MOST_PLACES, Chunk

LARGEST_HEAD = 64 * 2**20
OTHER_KEY = "sealed with another key"
_MAGIC, _NONCE, _TAG = b"rbmlhd01", 12, 16
_LARGEST_UNPACKED = 2**28
_LARGEST_CHUNK = 2**24

Hex = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{2})+$")]
Count = Annotated[int, Field(ge=0, lt=2**62)]


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Entry(_Plain):
    """A file of the set."""

    name: str
    size: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Head(_Plain):
    """What is said of a version of a set in each place.

    Attributes:
        series: tells sets apart, whatever they are called.
        name: what the set is called.
        version: 1 for the first; the next time that the set is protected it is one more.
        created: when, ISO 8601.
        shard: which shard lies here, from 0; its place stands there in the list of places.
        places: how many there are.
        need: how many suffice.
        chunk: bytes of a shard in one stripe, even.
        salt: of the key of this version.
        tag: part of the name of the shard's file.
        files: of the set, in the order in which their bytes follow each other.
        folders: that hold no file, with the classes that have none.
    """

    series: Hex
    name: str
    version: Annotated[int, Field(ge=1, lt=10**8)]
    created: str
    shard: Count
    places: Annotated[int, Field(ge=1, le=MOST_PLACES)]
    need: Annotated[int, Field(ge=1, le=MOST_PLACES)]
    chunk: Annotated[int, Field(ge=2, le=_LARGEST_CHUNK, multiple_of=2)]
    salt: Hex
    tag: Hex
    files: tuple[Entry, ...]
    folders: tuple[str, ...]

    @property
    def group(self) -> tuple[str, int, str]:
        """What the heads of one version have in common."""
        return self.series, self.version, self.salt

    @property
    def file(self) -> str:
        """The name of the shard's file."""
        return f"robustml-{self.version:08}-{self.tag}.shard"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 over the names and digests of all files, as ``sha256:<hex>``."""
        lines = "".join(f"{entry.sha256}  {entry.name}\n" for entry in self.files)
        return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()

    @property
    def stripe(self) -> int:
        """Bytes of the set in a stripe."""
        return self.chunk * self.need

    @property
    def stripes(self) -> int:
        """How many there are."""
        return -(-self.size // self.stripe)

    def length(self, stripe: int) -> int:
        """Bytes of the set in that stripe: the last one is shorter."""
        return min(self.stripe, self.size - stripe * self.stripe)

    def sealed(self, stripe: int) -> tuple[int, int]:
        """Where the sealed chunk of a stripe lies in the shard, and its length."""
        return stripe * (self.chunk + _TAG), chunk_of(self.length(stripe), self.need) + _TAG

    @property
    def shard_size(self) -> int:
        """Bytes of the shard."""
        return sum(self.sealed(self.stripes - 1)) if self.stripes else 0

    def spans(self) -> Iterator[tuple[Entry, int]]:
        """Each file, and where it begins."""
        begin = 0
        for entry in self.files:
            yield entry, begin
            begin += entry.size


def chunk_of(length: int, need: int) -> int:
    """Bytes of the chunks that so many bytes are cut into: an even number."""
    return -(-length // (2 * need)) * 2


class Unreadable(Exception):
    """Why a head is none of this key's."""


def seal_head(head: Head, key: DataKey) -> bytes:
    """The bytes of a head.

    Raises:
        RequestError: it is too large: the set has too many files.
    """
    start, nonce = _MAGIC + key.name, secrets.token_bytes(_NONCE)
    packed = zlib.compress(head.model_dump_json().encode(), 1)
    if len(packed) > LARGEST_HEAD - 64:
        raise RequestError(f"the set has {len(head.files):,} files, more than a head holds: pack them, as Parquet, say")
    return start + nonce + key.cipher(b"head").encrypt(nonce, packed, start)


def open_head(content: bytes, key: DataKey) -> Head:
    """The head in these bytes, which anybody may have written.

    Raises:
        Unreadable: it is not authentic.
    """
    start, nonce, sealed = content[:16], content[16 : 16 + _NONCE], content[16 + _NONCE :]
    expected = _MAGIC + key.name
    if not start.startswith(_MAGIC) or len(sealed) < _TAG or len(content) > LARGEST_HEAD:
        raise Unreadable("altered")
    try:
        packed = key.cipher(b"head").decrypt(nonce, sealed, expected)
        if start != expected:
            raise Unreadable("altered")
        told = zlib.decompressobj().decompress(packed, _LARGEST_UNPACKED)
        head = Head.model_validate_json(told)
        check_names([*(entry.name for entry in head.files), *head.folders], "the head")
    except InvalidTag as error:
        raise Unreadable("altered" if start == expected else OTHER_KEY) from error
    except (ValidationError, RequestError, zlib.error) as error:  # of another version of robustml, or a mistake in ours
        raise Unreadable("of a form that this version does not know") from error
    if head.need > head.places or head.shard >= head.places:
        raise Unreadable("of a form that this version does not know")
    return head


class Cipher:
    """Seals and opens the chunks of one version of a set."""

    def __init__(self, key: DataKey, head: Head) -> None:
        self._bound = f"{head.series} {head.version} {head.need} of {head.places}, {head.chunk}".encode()
        self._cipher = key.cipher(b"shard " + self._bound, bytes.fromhex(head.salt))

    def seal(self, shard: int, stripe: int, chunk: Chunk) -> bytes:
        """The sealed chunk."""
        return self._cipher.encrypt(_nonce(shard, stripe), chunk.data.cast("B"), self._bound)

    def open(self, shard: int, stripe: int, sealed: bytes) -> Chunk | None:
        """The chunk; None where it is not as it was sealed, or of another place."""
        try:
            return np.frombuffer(self._cipher.decrypt(_nonce(shard, stripe), sealed, self._bound), np.uint16)
        except InvalidTag:
            return None


def _nonce(shard: int, stripe: int) -> bytes:
    # No two chunks under one key share it: the salt, and with it the key, is new for every version.
    return shard.to_bytes(4, "big") + stripe.to_bytes(8, "big")
