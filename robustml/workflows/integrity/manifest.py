"""`robustml data manifest`: what every record of a set is, by its digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from robustml.data import Source
from robustml.data.sources.stored import Damaged, Decoded, PartFiles, Stored, StoredSource, as_stored, common_folder
from robustml.errors import RequestError
from robustml.integrity.hashing import hash_files
from robustml.integrity.manifest import MANIFEST, PartOf, write_manifest
from robustml.results.integrity import Manifest, ManifestFile
from robustml.workflows.integrity.auditing import audited, audits

# Sets up to so many bytes are also decoded, once, for the fingerprint that a run knows them by.
_DECODED = 64 * 2**20


def make_manifest(
    source: Source,
    out: Path | str,
    *,
    name: str,
    origin: str = "",
    licence: str = "",
    revision: str = "",
    decoded: bool | None = None,
) -> Manifest:
    """Make the manifest of a set; it is read once, and never held as a whole.

    Args:
        source: the set.
        out: the folder to write to. A manifest that lies there is replaced, and its series goes on.
        name: what the set is called.
        origin: where it comes from, in your own words.
        licence: under which it may be used.
        revision: which state of it this is.
        decoded: note the fingerprint of the decoded set too, for which it is loaded whole; None does so where the set
            has at most 64 MiB and can be decoded.

    Raises:
        RequestError: a record or file cannot be read, or see `write_manifest`.
        RunFailed: the manifest cannot be written.
    """
    stored = as_stored(source)
    lying = {part: lies for part in stored.parts if (lies := stored.stored_files(part)) is not None}
    top = common_folder(lies.root for lies in lying.values()) if lying else None
    files = [] if top is None else list(_files(lying, top))
    small = sum(file.size for file in files) <= _DECODED
    parts = dict[str, PartOf]()
    for part in stored.parts:
        path = None if top is None else _below(lying[part].root, top)
        fingerprint = _fingerprint(source, part, decoded) if decoded or (decoded is None and small) else None
        classes = stored.stored_classes(part)
        parts[part] = PartOf(_readable(stored, part), path, classes, fingerprint)
    with audited("manifested", Path(out) / MANIFEST, set=name) as told:
        made = write_manifest(Path(out), parts, files, name=name, source=origin, licence=licence, revision=revision)
        told.facts |= {"root": made.root, "serial": made.serial}
    return made


@audits("manifested", into="out", files=(MANIFEST,))
def manifest_of(
    records: Iterable[Stored | dict[str, bytes | None]], out: Path | str, *, name: str, part: str = "train", **said: Any
) -> Manifest:
    """Make the manifest of a stream: records are taken one after the other, and none is kept.

    Args:
        records: each as a dict of bytes by field, "input" and "label" (the name of its class) above all.
        out: see `make_manifest`; so are the name and what else is said of the set: source, licence, revision.
        name: of the set.
        part: what the records are of.
        said: see `write_manifest`.

    Raises:
        RequestError: see `write_manifest`.
        RunFailed: the manifest cannot be written.
    """
    stored = (
        record if isinstance(record, Stored) else Stored(part, row, "", record) for row, record in enumerate(records)
    )
    with audited("manifested", Path(out) / MANIFEST, set=name) as told:
        made = write_manifest(Path(out), {part: PartOf(stored)}, name=name, **said)
        told.facts |= {"root": made.root, "serial": made.serial}
    return made


def _files(lying: dict[Any, PartFiles], top: Path) -> Iterator[ManifestFile]:
    for part, (_, paths) in lying.items():
        for path, digest in zip(paths, hash_files(paths), strict=True):
            if isinstance(digest, RequestError):
                raise digest
            yield ManifestFile(part=part, path=_below(path, top), size=path.stat().st_size, sha256=digest)


def _below(path: Path, top: Path) -> str:
    try:
        return path.absolute().relative_to(top).as_posix()
    except ValueError as error:
        raise RequestError(
            f"{path} lies outside {top}, where the rest of the set is, and a manifest names files below one folder: "
            "copy it there"
        ) from error


def _readable(stored: StoredSource | Decoded, part: Any) -> Iterator[Stored]:
    for record in stored.stored(part):
        if isinstance(record, Damaged):
            raise RequestError(f"{part} {record.row} cannot be read: {record.reason}")
        yield record


def _fingerprint(source: Source, part: Any, asked: bool | None) -> str | None:
    try:
        # not by way of the cache: what is signed shall come from the files
        return source.load(part).fingerprint()
    except RequestError:
        if asked:
            raise
        return None
