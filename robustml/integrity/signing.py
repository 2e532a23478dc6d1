"""Signatures over folders and files, as bundles that `model_signing verify` accepts, and the check of them."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from robustml.errors import RequestError, printable
from robustml.files import read_text, sha256, sweep, write_text
from robustml.integrity.bundle import ITSELF, Statement, hint_of, read_bundle, read_statement, write_bundle
from robustml.integrity.keys import read_private
from robustml.integrity.names import below, check_names, files_below
from robustml.integrity.trust import Signer, Trust, Untrusted

SIGNATURE = "signature.sigstore.json"
_LARGEST = 2**26


@dataclass(frozen=True)
class Checked:
    """What a signature says of a folder, and what the folder has become.

    Attributes:
        signer: who signed it.
        changes: for each file that is not as signed its name and "altered", "missing", "added" or why it is refused.
        ignored: what lies there and was not signed, as who signed wanted it.
        files: how many files were signed.
    """

    signer: Signer
    changes: dict[str, str]
    ignored: tuple[str, ...] = field(default=())
    files: int = 0


def signature_of(path: Path) -> Path:
    """Where the signature of a folder or of a single file lies."""
    return path / SIGNATURE if path.is_dir() else path.with_name(f"{path.name}.sigstore.json")


def sign_folder(folder: Path, key: Path, *, ignore: Collection[str] = ()) -> Path:
    """Sign all files of a folder but those ignored, or a single file; returns the path of the bundle.

    Args:
        folder: no link or device may lie in it; or a file, whose bundle lies beside it.
        key: a folder that `robustml keys new` made, or a private key in PEM.
        ignore: names of files and folders in it that are not signed.

    Raises:
        RequestError: no such folder or key, a key that others may read, a wrong passphrase, hostile names.
        RunFailed: the bundle cannot be written.
    """
    folder = Path(folder)
    ignored: frozenset[str] = frozenset()
    private = read_private(key)
    if folder.is_dir():
        sweep(folder)  # what a process that was killed here had half written
        ignored = frozenset({SIGNATURE, *ignore})
        names = []
        for name, wrong in files_below(folder, ignored):
            if wrong is not None:
                raise RequestError(f"{printable(str(folder / name))} cannot be signed: {wrong}")
            names.append(name)
        if not names:
            raise RequestError(f"{folder} holds no file that could be signed")
        check_names(names, str(folder))
    elif folder.exists():
        names = [ITSELF]
    else:
        raise RequestError(f"there is no {folder}")
    bundle = write_bundle(folder.resolve().name, _digests(folder, names), ignored, private)
    return write_text(signature_of(folder), bundle)


def check_folder(folder: Path, trust: Trust, may: str) -> Checked:
    """Check the signature of a folder or a file, then every file against it.

    Args:
        folder: where `SIGNATURE` lies, or the file that a bundle lies beside.
        trust: whose keys count.
        may: what the key must be allowed to sign: data, model or log.

    Raises:
        RequestError: no such folder.
        Untrusted: the signature is absent, damaged, forged, or by a key that is unknown or may not sign this.
    """
    folder = Path(folder)
    if not folder.exists():
        raise RequestError(f"there is no {folder}")
    signer, statement = _signed(signature_of(folder), trust, may)
    if (ITSELF in statement.digests) == folder.is_dir():
        raise Untrusted(f"{signature_of(folder)} was made for a {'file' if folder.is_dir() else 'folder'}")
    if not folder.is_dir():
        same = _digests(folder, [ITSELF]) == statement.digests
        return Checked(signer, {} if same else {folder.name: "altered"}, files=1)
    sweep(folder, SIGNATURE)
    ignored = statement.ignored | {SIGNATURE}
    found = dict(files_below(folder, ignored))
    changes = {name: f"refused: {wrong}" for name, wrong in found.items() if wrong is not None}
    changes |= dict.fromkeys(found.keys() - statement.digests.keys() - changes.keys(), "added")
    changes |= dict.fromkeys(statement.digests.keys() - found.keys(), "missing")
    there = [name for name in statement.digests if name in found and name not in changes]
    for name, digest in _digests(folder, there, lenient=True).items():
        if digest != statement.digests[name]:
            changes[name] = "altered" if digest else "cannot be read"
    left_out = sorted(name for name in statement.ignored - {SIGNATURE} if (folder / name).exists())
    return Checked(signer, dict(sorted(changes.items())), tuple(left_out), len(statement.digests))


def signer_of(folder: Path, trust: Trust, may: str) -> Signer:
    """Who signed a folder that is as it was signed.

    Raises:
        RequestError: no such folder.
        Untrusted: as `check_folder`; or a file is not as signed, which is named.
    """
    checked = check_folder(folder, trust, may)
    for name, what in checked.changes.items():
        more = f", and {len(checked.changes) - 1} more" if len(checked.changes) > 1 else ""
        raise Untrusted(f"{folder} is not as {checked.signer.name} signed it: {printable(name)}: {what}{more}")
    return checked.signer


def _signed(path: Path, trust: Trust, may: str) -> tuple[Signer, Statement]:
    if not path.exists():
        raise Untrusted(f"there is no signature: {path} is absent")
    try:
        bundle = read_bundle(read_text(below(path.parent, path.name), _LARGEST), str(path))
        by = next((key for key in trust.keys if bundle.signed_by(key.public)), None)
        if by is None:
            claimed = [key.signer.name for key in trust.keys if hint_of(key.public) == bundle.hint]
            whose = (
                f"forged or damaged: it claims to be by {claimed[0]}, whose key says no" if claimed else "by a stranger"
            )
            raise Untrusted(f"{path} is {whose}; {trust.folder} trusts {trust.names}")
        if bundle.hint not in ("", hint_of(by.public)):
            raise Untrusted(f"{path} was altered: {by.signer.name} signed it, and it names another key")
        if may not in by.may:
            raise Untrusted(f"{path} is by {by.signer.name}, whose key may sign {', '.join(by.may)}, and no {may}")
        return by.signer, read_statement(bundle.payload, str(path))
    except RequestError as error:
        raise Untrusted(f"the signature is refused: {error}") from error


def _digests(folder: Path, names: Collection[str], *, lenient: bool = False) -> dict[str, str]:
    """SHA-256 of files, in hex, two at a time; where that is `lenient`, "" of one that cannot be read."""

    def digest(name: str) -> str:
        try:
            return sha256(folder if name == ITSELF else below(folder, name)).removeprefix("sha256:")
        except RequestError:
            if lenient:
                return ""
            raise

    with ThreadPoolExecutor(2) as threads:
        return dict(zip(names, threads.map(digest, names), strict=True))
