"""Keys that sign: ECDSA on NIST's curves, as OpenSSF Model Signing has it; ours are P-256.

A private key is made readable by its owner alone and refused where others can read it; a passphrase comes from the
environment or a terminal, never from an argument.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from robustml.errors import RequestError
from robustml.files import opened, write_bytes, write_new

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    Private: TypeAlias = ec.EllipticCurvePrivateKey
    Public: TypeAlias = ec.EllipticCurvePublicKey

PRIVATE, PUBLIC = "private.pem", "public.pem"
PASSPHRASE = "ROBUSTML_KEY_PASSPHRASE"
_LARGEST = 2**16
_LONGEST = 1023  # of a passphrase, as OpenSSL takes it
# The curves that OpenSSF Model Signing allows, each with its hash.
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}


def make_keys(folder: Path, *, ask: bool = False) -> Public:
    """Make a key pair on P-256: private.pem, which only its owner can read, and public.pem.

    Args:
        folder: made if absent.
        ask: ask for a passphrase on the terminal; otherwise there is one where ROBUSTML_KEY_PASSPHRASE holds it.

    Raises:
        RequestError: a key is there already, or there is no terminal to ask on.
        RunFailed: the folder cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    for name in (PRIVATE, PUBLIC):
        if os.path.lexists(folder / name):
            raise RequestError(f"{folder / name} is there already, and no key is written over; name another out=")
    passphrase = _ask("new passphrase", twice=True) if ask else _given()
    if len(passphrase) > _LONGEST:
        raise RequestError(f"the passphrase has {len(passphrase)} bytes; expected at most {_LONGEST}")
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    write_new(folder / PRIVATE, pem, mode=0o600)
    write_bytes(folder / PUBLIC, pem_of(key.public_key()))
    return key.public_key()


def read_private(key: Path) -> Private:
    """The private key in a folder that `make_keys` made, or in a PEM file; asks for its passphrase where it has one.

    Raises:
        RequestError: there is none, others can read it, it is damaged or of another kind, the passphrase is wrong, or
            there is no way to ask for it.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = Path(key) / PRIVATE if Path(key).is_dir() else Path(key)
    if not path.exists():
        raise RequestError(f"there is no private key {path}; robustml keys new out=<folder> makes one")
    with opened(path) as file:
        if (mode := os.fstat(file.fileno()).st_mode) & 0o077:
            raise RequestError(f"{path} is refused: others can use it (mode {mode & 0o777:o}); chmod 600 it")
        pem = file.read(_LARGEST)
    try:
        try:
            loaded: object = load_pem_private_key(pem, None)
        except TypeError:  # it has a passphrase
            loaded = _unlocked(path, pem, _given() or _ask(f"passphrase of {path}"))
    except RequestError:
        raise
    except Exception as error:  # whatever OpenSSL's parsers find wrong with it
        raise RequestError(f"{path} holds no private key that can be read") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.curve.name not in _HASHES:
        raise _of_another_kind(str(path))
    return loaded


def read_public(path: Path) -> Public:
    """The public key in a PEM file.

    Raises:
        RequestError: there is none, or it is damaged or of another kind.
    """
    with opened(path) as file:
        pem = file.read(_LARGEST)
    return public_of(pem, str(path))


def public_of(pem: bytes, source: str) -> Public:
    """The public key that PEM text holds.

    Raises:
        RequestError: none of ours; the line begins with `source`.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in pem:
        raise RequestError(f"{source} holds a private key, which nobody else is to have; name its public.pem")
    try:
        loaded = load_pem_public_key(pem)
    except Exception as error:  # whatever OpenSSL's parsers find wrong with it
        raise RequestError(f"{source} holds no public key in PEM") from error
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or loaded.curve.name not in _HASHES:
        raise _of_another_kind(source)
    return loaded


def _of_another_kind(source: str) -> RequestError:
    return RequestError(f"{source} holds a key of another kind; expected ECDSA on P-256, P-384 or P-521")


def pem_of(public: Public) -> bytes:
    """A public key as PEM (SubjectPublicKeyInfo), always in the same bytes."""
    from cryptography.hazmat.primitives import serialization

    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(public: Public) -> str:
    """``sha256:<hex>`` of a public key (SubjectPublicKeyInfo, DER)."""
    from cryptography.hazmat.primitives import serialization

    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def sign(private: Private, message: bytes) -> bytes:
    """An ECDSA signature (DER) with the hash of the curve."""
    return private.sign(message, _scheme(private.curve.name))


def verifies(public: Public, signature: bytes, message: bytes) -> bool:
    """Whether a signature (DER) over a message was made with the key's other half."""
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, message, _scheme(public.curve.name))
    except InvalidSignature:
        return False
    return True


def _scheme(curve: str) -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, _HASHES[curve])())


def _unlocked(path: Path, pem: bytes, passphrase: bytes) -> object:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, passphrase)
    except ValueError as error:
        raise RequestError(f"the passphrase does not open {path}, or it is damaged") from error


def _given() -> bytes:
    return os.fsencode(os.environ.get(PASSPHRASE, ""))


def _ask(what: str, *, twice: bool = False) -> bytes:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RequestError(f"{what}: there is no terminal to ask on; set {PASSPHRASE} in the environment")
    given = getpass.getpass(f"{what}: ", stream=sys.stderr)
    if twice and (not given or getpass.getpass("once more: ", stream=sys.stderr) != given):
        raise RequestError("the two passphrases differ, or are empty; nothing was written")
    return os.fsencode(given)
