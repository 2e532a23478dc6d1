"""Signatures over manifests and models."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from robustml.errors import RequestError, pasteable, printable
from robustml.integrity.signing import Checked, check_folder, sign_folder, signature_of
from robustml.integrity.trust import Trust, read_trust
from robustml.say import say
from robustml.workflows.integrity.auditing import audited

# What later commands write into a run: other models, and figures of this one. The card has the figures, and is signed.
LATER = ("detections", "evaluations", "repairs", "served", "shortcuts", "sweeps", "trojans")


def sign_data(manifest: Path, key: Path) -> Path:
    """Sign a manifest, all files of its folder.

    Args:
        manifest: a folder that `robustml data manifest` made.
        key: a folder that `robustml keys new` made, or a private key in PEM.

    Returns:
        The path of the bundle, in the format of OpenSSF Model Signing.

    Raises:
        RequestError: no such manifest or key; see `sign_folder`.
        RunFailed: it cannot be written.
    """
    if not (manifest / "manifest.json").is_file():
        raise RequestError(
            f"{manifest} holds no manifest.json; robustml data manifest data=... out={manifest} makes it"
        )
    with audited("signed", manifest / "manifest.json", signature_of(manifest)):
        return _told(sign_folder(manifest, key))


def sign_model(run: Path, key: Path, ignore: Collection[str] | None = None) -> Path:
    """Sign a run: weights, config, results, card and whatever else lies there; or any folder or file.

    Args:
        run: a run directory, another folder, or a file.
        key: a folder that `robustml keys new` made, or a private key in PEM.
        ignore: files and folders in it that are not signed; by default, of a run directory, `LATER`.

    Returns:
        The path of the bundle, in the format of OpenSSF Model Signing.

    Raises:
        RequestError: no such folder or key; see `sign_folder`.
        RunFailed: it cannot be written.
    """
    is_run = (run / "results.json").is_file()
    if ignore is None:
        ignore = LATER if is_run else ()
    left_out = [name for name in ignore if (run / name).exists()]
    with audited("signed", signature_of(run)):
        bundle = _told(sign_folder(run, key, ignore=ignore))
    if left_out:
        say(f"not signed: {', '.join(left_out)}")
    if is_run and not (run / "card.json").is_file():
        say(f"there is no card in it; {pasteable('card', run)} writes one, to be signed with the rest")
    return bundle


def verify_model(run: Path, trust: Path | Trust) -> Checked:
    """Whether a run, or any folder or file, is as somebody trusted signed it.

    Args:
        run: a run directory, another folder, or a file.
        trust: a trust store.

    Returns:
        Who signed, and what became of each file since; a line is said for each that changed.

    Raises:
        RequestError: no such run or trust store.
        Untrusted: the signature is absent, damaged, forged, or by a key that is unknown or may not sign models.
    """
    store = trust if isinstance(trust, Trust) else read_trust(trust)
    with audited("verified", signature_of(run)) as told:
        checked = check_folder(run, store, "model")
        told.facts |= {"signer": checked.signer.name, "changed": len(checked.changes)}
    for name, what in checked.changes.items():
        say(f"{printable(name)}: {what}")
    state = f"{_files(len(checked.changes))} changed since" if checked.changes else "all as signed"
    say(f"signed by {checked.signer.name} ({checked.signer.fingerprint[:19]}...), {_files(checked.files)}: {state}")
    if checked.ignored:
        say(f"not signed, so anybody's: {', '.join(map(printable, checked.ignored))}")
    return checked


def _told(bundle: Path) -> Path:
    say(f"signature: {bundle}")
    return bundle


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"
