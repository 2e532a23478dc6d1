"""The key that protected copies are encrypted with: a file of its owner's, apart from the places.

From it every version of a set gets a key of its own (HKDF-SHA256 with a fresh salt). Under the passphrase in
``ROBUSTML_KEY_PASSPHRASE`` the file holds the key encrypted (scrypt, AES-256-GCM).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from robustml.errors import RequestError, RunFailed
from robustml.files import read_json, write_new, write_text
from robustml.integrity.keys import PASSPHRASE
from robustml.say import say

_FORMAT, _NAME, _LARGEST = "robustml data key, version 1", "data.key", 4096
_SCRYPT = {"n": 2**15, "r": 8, "p": 1}


@dataclass(frozen=True)
class DataKey:
    """A key, and where it lies."""

    path: Path
    _secret: bytes = field(repr=False)

    @property
    def name(self) -> bytes:
        """Eight bytes that tell this key from others, and nothing about it."""
        return self._derived(b"name", b"")[:8]

    def cipher(self, use: bytes, salt: bytes = b"") -> AESGCM:
        """AES-256-GCM with the key for one use."""
        return AESGCM(self._derived(use, salt))

    def _derived(self, use: bytes, salt: bytes) -> bytes:
        return HKDF(hashes.SHA256(), 32, salt, b"robustml protection 1: " + use).derive(self._secret)

    def write(self) -> None:
        """Write the file, readable by its owner alone, where none is yet.

        Raises:
            RequestError: there is a file already.
            RunFailed: it cannot be written.
        """
        told: dict[str, Any] = {"format": _FORMAT}
        if passphrase := os.environ.get(PASSPHRASE):
            salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
            sealed = nonce + _from_passphrase(passphrase, salt, _SCRYPT).encrypt(nonce, self._secret, None)
            told |= {"scrypt": _SCRYPT, "salt": _text(salt), "sealed": _text(sealed)}
        else:
            told["key"] = _text(self._secret)
        write_new(self.path, json.dumps(told).encode(), mode=0o600)

    def newest_seen(self, series: str) -> int:
        """The highest version of a set that was ever seen with this key, by the note beside it; 0 for none."""
        return int(self._seen().get(series, 0))

    def remember(self, series: str, version: int) -> None:
        """Note that a version of a set was seen; where that cannot be written, say so."""
        seen = self._seen()
        if version > int(seen.get(series, 0)):
            try:
                write_text(self.note, json.dumps(seen | {series: version}))
            except RunFailed as error:
                say(f"note: {error}: an older version of the set would not be noticed")

    @property
    def note(self) -> Path:
        """The file of `remember`."""
        return self.path.with_name(f"{self.path.name}.seen.json")

    def _seen(self) -> dict[str, Any]:
        seen = read_json(self.note, 2**20) if self.note.exists() else {}
        if not isinstance(seen, dict) or not all(type(version) is int for version in seen.values()):
            raise RequestError(f"{self.note} is damaged: expected the versions that were seen of each set")
        return seen


def key_path(key: str | Path) -> Path:
    """The file that a key lies in: `key` itself, or data.key in the folder of that name."""
    path = Path(key)
    return path / _NAME if path.is_dir() or (not path.exists() and not path.suffix) else path


def new_key(path: Path) -> DataKey:
    """A key that is in no file yet."""
    return DataKey(path, secrets.token_bytes(32))


def read_key(path: Path) -> DataKey:
    """The key in a file.

    Raises:
        RequestError: there is none, others can read it, it is damaged, or it is under a passphrase that is absent or
            another.
    """
    if not path.exists():
        raise RequestError(f"there is no data key {path}: key=<file or folder> names the one of the set")
    if (mode := path.stat().st_mode) & 0o077:
        raise RequestError(f"{path} is refused: others can use it (mode {mode & 0o777:o}); chmod 600 it")
    told = read_json(path, _LARGEST)
    damaged = RequestError(f"{path} is no data key of robustml, or it is damaged")
    if not isinstance(told, dict) or told.get("format") != _FORMAT:
        raise damaged
    try:
        if "key" in told:
            secret = base64.b64decode(told["key"], validate=True)
        else:
            passphrase = os.environ.get(PASSPHRASE)
            if not passphrase:
                raise RequestError(f"{path} is under a passphrase: set {PASSPHRASE}")
            sealed, salt = (base64.b64decode(told[name], validate=True) for name in ("sealed", "salt"))
            secret = _from_passphrase(passphrase, salt, told["scrypt"]).decrypt(sealed[:12], sealed[12:], None)
    except InvalidTag as error:
        raise RequestError(f"{path} does not open with the passphrase in {PASSPHRASE}, or it is damaged") from error
    except (KeyError, TypeError, ValueError, MemoryError) as error:
        raise error if isinstance(error, RequestError) else damaged from error
    if len(secret) != 32:
        raise damaged
    return DataKey(path, secret)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else on this machine protects or restores with the key in this block; others wait until it ends."""
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _from_passphrase(passphrase: str, salt: bytes, costs: Any) -> AESGCM:
    n, r, p = (costs[name] for name in ("n", "r", "p"))
    if not all(type(cost) is int for cost in (n, r, p)) or n * r * 128 > 2**28 or p > 4:
        raise ValueError("scrypt would need more memory or time than any key of ours")
    return AESGCM(Scrypt(salt, 32, n, r, p).derive(passphrase.encode()))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
