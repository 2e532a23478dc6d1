"""Signatures over folders, in the format of OpenSSF Model Signing v1.0: an in-toto statement in a Sigstore bundle."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from robustml.integrity.trust import Signer, Trust

SIGNATURE = "signature.sigstore.json"


@dataclass(frozen=True)
class Checked:
    """What a signature says of a folder, and what the folder has become.

    Attributes:
        signer: who signed it.
        changes: for each file that is not as signed its name and "altered", "missing", "added" or why it is refused.
    """

    signer: Signer
    changes: dict[str, str]


def sign_folder(folder: Path, key: Path, *, ignore: Collection[str] = ()) -> Path:
    """Sign all files of a folder but those ignored; returns the path of the bundle in it, `SIGNATURE`.

    Args:
        folder: no link or device may lie in it.
        key: a folder that `robustml keys new` made, or a private key in PEM.
        ignore: names of files and folders in it that are not signed.

    Raises:
        RequestError: no such folder or key, a key that others may read, a wrong passphrase, hostile names.
        RunFailed: the bundle cannot be written.
    """
    raise NotImplementedError


def check_folder(folder: Path, trust: Trust, may: str) -> Checked:
    """Check the signature of a folder, then every file against it.

    Args:
        folder: where `SIGNATURE` lies.
        trust: whose keys count.
        may: what the key must be allowed to sign: data, model or log.

    Raises:
        RequestError: no such folder.
        Untrusted: the signature is absent, damaged, forged, or by a key that is unknown or may not sign this.
    """
    raise NotImplementedError


def signer_of(folder: Path, trust: Trust, may: str) -> Signer:
    """Who signed a folder that is as it was signed.

    Raises:
        RequestError: no such folder.
        Untrusted: as `check_folder`; or a file is not as signed, which is named.
    """
    raise NotImplementedError
