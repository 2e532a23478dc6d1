"""Whom we believe: public keys with a name and what each may sign, and how new the newest was that we have seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustml.errors import RunFailed


class Untrusted(RunFailed):
    """A signature is absent, forged, by an unknown key, or of something that was changed: one line says which."""


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
class Trust:
    """A trust store that was read."""

    folder: Path


def read_trust(folder: Path | str) -> Trust:
    """The trust store in a folder: trust.json and the public keys that it names.

    Raises:
        RequestError: there is none, or it is damaged.
    """
    raise NotImplementedError


def check_serial(trust: Trust, series: str, serial: int) -> None:
    """Refuse a serial below the highest that this store has seen of a series; remember a higher one (seen.json).

    A store that cannot be written is said, and does not fail.

    Raises:
        Untrusted: a replay, which names both serials.
    """
    raise NotImplementedError
