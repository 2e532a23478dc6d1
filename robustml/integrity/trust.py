"""Whom we believe: public keys with a name and what each may sign, and how new the newest was that we have seen.

A trust store is a folder with trust.json, the public keys that it names, and seen.json: the highest serial of every
series of manifests, and how far every audit log had come. Whoever can write into it decides whom we believe.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from robustml.errors import RequestError, RunFailed
from robustml.files import opened, write_bytes
from robustml.integrity.keys import PUBLIC, fingerprint, pem_of, read_public
from robustml.integrity.names import below
from robustml.integrity.seen import SEEN, Seen, locked, read_seen, read_strictly, remember
from robustml.results.reading import write_checked

if TYPE_CHECKING:
    from robustml.integrity.keys import Public

TRUST = "trust.json"
May = Literal["data", "model", "log"]
EVERYTHING: tuple[May, ...] = get_args(May)
_NAME = re.compile(r"\w[\w.@+ -]{0,62}\w|\w")


class Untrusted(RunFailed):
    """A signature is absent, forged, by an unknown key, or of something that was changed: one line says which."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Key(_Strict):
    name: Annotated[str, Field(pattern=r"^[\w.@+ -]{1,64}$")]
    key: str
    fingerprint: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    may: list[May]


class _Store(_Strict):
    schema_: Literal["robustml/trust/1"] = Field(default="robustml/trust/1", alias="schema")
    keys: list[_Key] = []


@dataclass(frozen=True)
class Signer:
    """Who signed.

    Attributes:
        name: what the trust store calls them.
        fingerprint: ``sha256:<hex>`` of the public key (SubjectPublicKeyInfo, DER).
    """

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Trusted:
    """A key of a trust store.

    Attributes:
        signer: whose it is.
        may: what it may sign.
        file: where it lies in the store.
        public: the key itself.
    """

    signer: Signer
    may: tuple[May, ...]
    file: str
    public: Public


@dataclass(frozen=True)
class Trust:
    """A trust store that was read."""

    folder: Path
    keys: tuple[Trusted, ...]

    @property
    def names(self) -> str:
        """Whose keys it has, for a message."""
        return ", ".join(key.signer.name for key in self.keys) or "nobody's"


def read_trust(folder: Path | str) -> Trust:
    """The trust store in a folder: trust.json and the public keys that it names.

    Raises:
        RequestError: there is none, everyone can write it, or it is damaged: a key is missing or another than it says.
    """
    folder = Path(folder)
    keys = []
    for entry in _read_store(folder).keys:
        public = read_public(below(folder, entry.key))
        if fingerprint(public) != entry.fingerprint:
            raise RequestError(f"{folder / entry.key} is not the key that {TRUST} names; somebody put another there")
        keys.append(Trusted(Signer(entry.name, entry.fingerprint), tuple(entry.may), entry.key, public))
    return Trust(folder, tuple(keys))


def check_name(name: str) -> None:
    """Refuse what no signer can be called.

    Raises:
        RequestError: says what is expected.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(f"name={name!r}: expected up to 64 letters and digits, with . _ @ + - and blanks between")


def add_key(folder: Path, public: Public, name: str, may: Collection[str], file: str | None = None) -> Signer:
    """Believe a key from now on.

    Args:
        folder: the store; made if absent.
        public: the key.
        name: what to call whose it is, once in a store.
        may: what it may sign, of `EVERYTHING`.
        file: where it lies in the store already; None copies it there.

    Raises:
        RequestError: the name is none or taken, the key is there already, or `may` holds what there is none of.
        RunFailed: the store cannot be written.
    """
    check_name(name)
    if not may or (unknown := set(may) - set(EVERYTHING)):
        raise RequestError(f"may={sorted(unknown) if may else []}: expected some of {', '.join(EVERYTHING)}")
    signer = Signer(name, fingerprint(public))
    with locked(folder):
        store = _read_store(folder) if (folder / TRUST).exists() else _Store()
        for known in store.keys:
            if known.name == name or known.fingerprint == signer.fingerprint:
                raise RequestError(
                    f"{folder} knows {known.name!r} already ({known.fingerprint[:19]}); take that entry out of {TRUST} "
                    "first, or name another"
                )
        if file is None:
            file = f"{signer.fingerprint[7:23]}.pem"
            write_bytes(folder / file, pem_of(public))
        ordered = [each for each in EVERYTHING if each in may]
        store.keys.append(_Key(name=name, key=file, fingerprint=signer.fingerprint, may=ordered))
        write_checked(store, folder / TRUST)
    return signer


def own_key(folder: Path, public: Public, name: str) -> Signer:
    """Believe the key that was made in a folder, in everything; the arguments are those of `add_key`."""
    return add_key(folder, public, name, EVERYTHING, PUBLIC)


def check_serial(trust: Trust, series: str, serial: int) -> None:
    """Refuse a serial below the highest that this store has seen of a series; remember a higher one (seen.json).

    A store that cannot be written is said, and does not fail.

    Raises:
        Untrusted: a replay, which names both serials.
        RequestError: seen.json is damaged.
    """
    known = read_seen(trust.folder).series.get(series, -1)
    if serial < known:
        raise Untrusted(
            f"a replay: this is number {serial} of its series, {trust.folder} has seen number {known}; where the old "
            f"one is wanted back, take the series out of {trust.folder / SEEN}"
        )

    def raise_to(seen: Seen) -> None:
        seen.series[series] = max(serial, seen.series.get(series, -1))

    if serial > known:
        remember(trust.folder, raise_to)


def _read_store(folder: Path) -> _Store:
    path = folder / TRUST
    if not path.exists():
        raise RequestError(
            f"there is no {path}; robustml keys new out=<folder> makes one, as does robustml keys trust store={folder} "
            "key=<public.pem> name=<whose>"
        )
    with opened(path) as file:
        if os.fstat(file.fileno()).st_mode & 0o002:
            raise RequestError(f"{path} is refused: everyone can write it, and so add a key; chmod o-w it")
    store = read_strictly(_Store, path)
    for own in ("name", "fingerprint", "key"):
        if len({getattr(key, own) for key in store.keys}) != len(store.keys):
            raise RequestError(f"{path} is not valid: a {own} stands there twice")
    return store
