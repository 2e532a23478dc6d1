"""`robustml data verify`: whether a set is what was signed, and which records are not."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from robustml.data import Source
from robustml.data.sources.stored import Decoded, StoredSource, as_stored
from robustml.errors import RequestError
from robustml.integrity.changes import State, changes_of
from robustml.integrity.hashing import hash_files
from robustml.integrity.manifest import MANIFEST, Digested, read_manifest, read_records
from robustml.integrity.signing import SIGNATURE, signer_of
from robustml.integrity.trust import Signer, check_serial, read_trust
from robustml.progress import track
from robustml.results.integrity import Comparison, FileChange, Manifest, ManifestFile, RecordChange, Side
from robustml.workflows.integrity.auditing import audited
from robustml.workflows.integrity.reading import PartNow, read_part


class Vouched(NamedTuple):
    """A manifest, and who signed it: None where it is taken without a signature."""

    manifest: Manifest
    signer: Signer | None
    trouble: str = ""

    def side(self, folder: Path) -> Side:
        """As a comparison names it."""
        manifest, signer = self.manifest, self.signer
        return Side(
            name=manifest.name,
            what=str(folder),
            root=manifest.root,
            created=manifest.created,
            revision=manifest.revision,
            serial=manifest.serial,
            records=sum(part.records for part in manifest.parts.values()),
            signed_by="" if signer is None else signer.name,
            fingerprint="" if signer is None else signer.fingerprint,
            trouble=self.trouble,
        )


def vouched(folder: Path, trust: Path | None, unsigned: bool) -> Vouched:
    """A manifest once its signature is checked; nothing of it is read before.

    Args:
        folder: the manifest.
        trust: the trust store. Without one the manifest is taken as it is, and `trouble` says so.
        unsigned: take it without any signature.

    Raises:
        RequestError: there is no manifest or trust store, or it is damaged.
        Untrusted: it is unsigned, forged, signed by a stranger, altered since, or older than one that was seen.
    """
    if not (folder / MANIFEST).is_file() and not (folder / SIGNATURE).is_file():
        raise RequestError(f"no manifest in {folder}: expected {MANIFEST}, as robustml data manifest writes it")
    if unsigned:
        return Vouched(read_manifest(folder), None)
    if trust is None:
        said = "it is signed by nobody whom you said to trust"
        return Vouched(read_manifest(folder), None, f"{said}: name the keys by trust=<folder>, or say unsigned=true")
    store = read_trust(trust)
    signer = signer_of(folder, store, "data")
    manifest = read_manifest(folder)
    check_serial(store, manifest.series, manifest.serial)
    return Vouched(manifest, signer)


def verify_data(
    source: Source, manifest: Path | str, trust: Path | str | None = None, *, unsigned: bool = False, name: str = ""
) -> Comparison:
    """Compare a set with its manifest: its files first, and where one differs, record by record.

    Args:
        source: the set.
        manifest: the folder.
        trust: the trust store, a folder of public keys. Without one all is compared, and nothing counts as verified.
        unsigned: take the manifest without any signature: what it says is then as good as whoever could write it.
        name: what the set is called in the report.

    Returns:
        What differs; `same`, and no `trouble` of its `old` side, where all is as signed.

    Raises:
        RequestError: there is no such manifest, trust store or set.
        Untrusted: the manifest is unsigned, forged, altered, by a key that is not trusted for data, or a replay.
    """
    folder = Path(manifest)
    with audited("verified", folder / MANIFEST) as told:
        given = vouched(folder, None if trust is None else Path(trust), unsigned)
        found = compare_data(source, given, folder, name)
        told.facts |= {"root": given.manifest.root, "signer": found.old.signed_by or "nobody"}
        told.facts |= {"same": found.same, "files": len(found.files), "records": len(found.records)}
    return found


def compare_data(source: Source, given: Vouched, folder: Path, name: str = "") -> Comparison:
    """Compare a set with a manifest at hand, which lies in `folder`; see `verify_data`."""
    stored, found = as_stored(source), _Found()
    # those of all parts at once: most sets are one file a part
    roots = [root for part in stored.parts if (root := stored.stored_root(part)) is not None and root.is_file()]
    found.digests = dict(zip(roots, hash_files(roots), strict=True))
    for part in [*given.manifest.parts, *(part for part in stored.parts if part not in given.manifest.parts)]:
        _compare(part, given.manifest, folder, stored, found)
    new = Side(name=name or given.manifest.name, what=" ".join(dict.fromkeys(found.roots)) or "the set as it is loaded")
    same = not (found.files or found.records)
    return Comparison(
        old=given.side(folder), new=new, same=same, compared=found.compared, files=found.files, records=found.records
    )


class _Found:
    def __init__(self) -> None:
        self.roots: list[str] = []
        self.files: list[FileChange] = []
        self.records: list[RecordChange] = []
        self.digests: dict[Path | None, str | RequestError] = {}
        self.compared = 0


def _compare(part: Any, manifest: Manifest, folder: Path, stored: StoredSource | Decoded, found: _Found) -> None:
    if part not in stored.parts:
        found.files.append(FileChange(file=part, change="the part is missing: there is no such part of the set"))
        return
    if part not in manifest.parts:
        found.files.append(FileChange(file=part, change="the part is new: the manifest does not name it"))
        return
    signed = {_key(file.path, manifest.parts[part].path): file for file in manifest.files if file.part == part}
    root = stored.stored_root(part)
    if root is not None:
        if not root.exists() and not root.parent.is_dir():
            raise RequestError(f"no folder {root.parent} (looked from {Path.cwd()}); name where the set lies")
        found.roots.append(str(root))
    intact = root in found.digests and "" in signed and found.digests[root] == signed[""].sha256
    now = read_part(part, stored, root, intact)
    changes = [] if root is None else _files_of(root, now.paths, signed, manifest, found.digests)
    if now.classes is not None and (said := _other_classes(manifest.parts[part].classes, now.classes)):
        found.files.append(FileChange(file=part, change=said))
    if changes or root is None:
        state = _state(part, now, manifest.parts[part].records)
        found.compared += state.count
        records = changes_of(part, read_records(folder, manifest, part), state)
        if not records:
            changes = [_said_of(change) for change in changes]
        found.records += records
    found.files += changes


def _files_of(
    root: Path,
    paths: Sequence[Path],
    signed: dict[str, ManifestFile],
    manifest: Manifest,
    digests: dict[Path | None, str | RequestError],
) -> list[FileChange]:
    """The files that differ."""
    here = {_key(path.as_posix(), root.as_posix(), root.is_dir()): path for path in paths if path.exists()}
    changes = [FileChange(file=file.path, change="missing") for key, file in signed.items() if key not in here]
    changes += [FileChange(file=str(path), change="added") for key, path in here.items() if key not in signed]
    both = [(signed[key], path, path.stat().st_size) for key, path in here.items() if key in signed]
    # a file of a size that none was signed with need not be read to be another one
    sizes, whose = {file.size for file in manifest.files}, {file.sha256: file.path for file in manifest.files}
    unread = [path for _, path, size in both if size in sizes and path not in digests]
    digests |= zip(unread, hash_files(unread), strict=True)
    for file, path, size in both:
        digest = digests.get(path)
        if isinstance(digest, RequestError):
            changes.append(FileChange(file=file.path, change=f"unreadable: {digest}"))
        elif digest != file.sha256:
            now = f": {file.size:,} bytes as signed, {size:,} now" if size != file.size else ""
            now += f"; it is a copy of {whose[digest]}" if digest in whose else ""
            changes.append(FileChange(file=file.path, change=f"altered{now}"))
    return sorted(changes, key=lambda change: change.file)


def _key(path: str, root: str | None, is_folder: bool | None = None) -> str:
    """What a file is called within its part, wherever that lies: "" for the one that the part itself is."""
    root = root or ""
    if path == root:
        return ""
    below = path.startswith(f"{root}/") if is_folder is None else is_folder
    return posixpath.relpath(path, root if below else posixpath.dirname(root) or ".")


def _said_of(change: FileChange) -> FileChange:
    return FileChange(file=change.file, change=f"{change.change}; every record of the part reads as signed")


def _other_classes(signed: dict[str, int], now: Sequence[str]) -> str:
    if list(signed) == list(now):
        return ""
    added, gone = [name for name in now if name not in signed], [name for name in signed if name not in now]
    parts = [f"{what} {', '.join(map(repr, names))}" for what, names in (("new", added), ("gone", gone)) if names]
    return f"other classes: {'; '.join(parts) or 'in another order'}"


def _state(part: str, now: PartNow, signed: int) -> State:
    state = State()
    for record in track(now.records, f"records of {part}"):
        if isinstance(record, Digested):
            state.add(record)
            continue
        # how many a broken file held, nobody knows any more: as many as were signed
        count = max(signed - state.count, 1) if record.records is None else record.records
        for row in range(record.row, record.row + min(count, max(signed, 1))):
            state.add_unreadable(row, record.name, record.reason)
    return state
