"""Restore protected files, bit-identical, and heal the places that lost or altered their shard."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustml.errors import RequestError, RunFailed
from robustml.files import opened
from robustml.integrity.names import below
from robustml.integrity.protection.datakey import DataKey, alone, key_path, read_key
from robustml.integrity.protection.erasure import encode, rebuild
from robustml.integrity.protection.heads import Cipher, Entry, Head
from robustml.integrity.protection.places import PlaceFailed, places_of
from robustml.integrity.protection.shards import NewShards, Shards
from robustml.integrity.protection.shelves import Shelf, check_replay, clean, look, nothing_stands, publish, standing
from robustml.integrity.protection.staging import Stage
from robustml.progress import track


@dataclass(frozen=True)
class Restored:
    """What was restored.

    Attributes:
        name: of the set.
        version: of it.
        digest: over the names and digests of all its files, as ``sha256:<hex>``.
        files: that were written; those that were intact already are not among them.
        intact: how many were.
        size: bytes of all of them.
        wrong: what was wrong with a place, by its URL without secrets.
        healed: the places that have a good shard again.
        others: names in the set that no folder was given for.
    """

    name: str
    version: int
    digest: str
    files: tuple[Path, ...]
    intact: int
    size: int
    wrong: dict[str, str]
    healed: tuple[str, ...]
    others: tuple[str, ...]


def restore(
    places: Sequence[str],
    key: str | Path,
    out: str | Path | Mapping[str, str | Path] | None,
    *,
    only: Collection[str] | None = None,
    heal: bool = True,
    timeout: float = 30.0,
) -> Restored:
    """Restore what was protected, from any `need` good shards, and heal the others in place.

    All shards are read and checked. Files are written beside their place and moved there once all are whole and have
    the digests that they had when they were protected: a crash, or too few good shards, leaves what was there. A folder
    that is not there yet appears with all its files; of one that is, files that are intact stay untouched, and those of
    other names too.

    Args:
        places: all of them, in the order in which the set was protected, lost ones too: a new folder or bucket in the
            stead of one that is gone for good is filled.
        key: the file of the data key, or its folder.
        out: the folder to restore into; or one for each beginning of names, which is then taken off; None heals only.
        only: names to restore; all by default.
        heal: write the shards anew that are damaged or lost. A shard whose head or size is wrong, or any part of which
            was read and is not as it was sealed, is.
        timeout: seconds after which a place that does not answer is taken for slow.

    Raises:
        RequestError: the set was protected in another number of places, with another key, or `out` is no folder.
        RunFailed: too few shards are good; nothing was changed. Or a file cannot be written.
    """
    path = key_path(key)
    told = {"": out} if isinstance(out, str | Path) else dict(out or {})
    folders = {start: Path(folder) for start, folder in told.items()}
    for folder in folders.values():
        if folder.exists() and not folder.is_dir():
            raise RequestError(f"out={folder} is no folder: choose another one")
    known = read_key(path)
    with places_of(places, timeout) as opened_places, alone(path):
        shelves = look(opened_places, known)
        head = standing(shelves, known)
        if head is None:
            raise nothing_stands(shelves)
        if head.places != len(places):
            raise RequestError(
                f"{head.name!r} was protected in {head.places} places, {len(places)} are named: name all, in order, "
                "lost ones too"
            )
        check_replay(head, known)
        return _Restoring(shelves, head, known).run(folders, only, heal)


@dataclass
class _Target:
    """A file that is to be restored."""

    entry: Entry
    begin: int
    folder: Path
    name: str

    @property
    def end(self) -> int:
        return self.begin + self.entry.size

    def intact(self) -> bool:
        """Whether it lies there as it was protected."""
        path = below(self.folder, self.name)
        if not path.is_file() or path.stat().st_size != self.entry.size:
            return False
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.entry.sha256


class _Restoring:
    """One call of `restore`, once it is known which version stands."""

    def __init__(self, shelves: list[Shelf], head: Head, key: DataKey) -> None:
        self.shelves, self.head, self.key = shelves, head, key
        self.cipher = Cipher(key, head)
        self.shards = Shards(shelves, head, self.cipher)

    def run(self, folders: Mapping[str, Path], only: Collection[str] | None, heal: bool) -> Restored:
        head, shards = self.head, self.shards
        targets = [
            _Target(entry, begin, folders[start], entry.name.removeprefix(start))
            for entry, begin in head.spans()
            if (start := _start(entry.name, folders)) is not None and (only is None or entry.name in only)
        ]
        if unknown := sorted({*(only or ())} - {target.entry.name for target in targets}):
            raise RequestError(f"{head.name!r} was protected without {', '.join(unknown[:3])}: protect it anew")
        wanted = [target for target in targets if not target.intact()]
        stages = {folder: Stage(folder, self.key) for folder in folders.values()}
        try:
            if heal:
                shards.check_sizes()
            shards.check_count()
            for name in head.folders if only is None else ():
                if (start := _start(name, folders)) is not None:
                    stages[folders[start]].add_folder(name.removeprefix(start))
            self._read(wanted, stages, everything=heal)
            for stage in stages.values():
                stage.move()
            healed = self._heal() if heal else []
        except OSError as error:
            raise RunFailed(
                f"cannot write {error.filename or 'what was restored'}: {error.strerror or error}; what stood there is "
                "intact"
            ) from error
        finally:
            for stage in stages.values():
                stage.remove()
            shards.close()
        named = {entry.name for entry in head.files}
        return Restored(
            head.name,
            head.version,
            head.digest,
            tuple(target.folder / target.name for target in wanted),
            len(targets) - len(wanted),
            sum(target.entry.size for target in targets),
            {str(shelf.place): shards.wrong[shelf.number] for shelf in self.shelves if shelf.number in shards.wrong},
            tuple(str(self.shelves[number].place) for number in healed),
            tuple(sorted(name for name in named if _start(name, folders) is None)),
        )

    def _read(self, wanted: list[_Target], stages: Mapping[Path, Stage], everything: bool) -> None:
        """Write the files into their stages, and check the shards on the way."""
        head = self.head
        files = deque(wanted)
        stripes: Sequence[int] = range(head.stripes)
        if not everything:
            touched = (range(each.begin // head.stripe, -(-each.end // head.stripe)) for each in wanted)
            stripes = sorted({stripe for each in touched for stripe in each})
        progress = track(stripes, f"restoring {head.name}" if wanted else f"checking {head.name}")
        for stripe, chunks in zip(progress, self.shards.stripes(stripes), strict=True):
            begin, end = stripe * head.stripe, stripe * head.stripe + head.length(stripe)
            piece: memoryview | None = None
            while files and files[0].begin < end:
                if piece is None:
                    piece = np.concatenate(rebuild(chunks, head.need)).data.cast("B")
                file = files[0]
                part = piece[max(file.begin, begin) - begin : min(file.end, end) - begin]
                stages[file.folder].append(file.name, part, last=file.end <= end, sha256=file.entry.sha256)
                if file.end > end:
                    break
                files.popleft()
        for file in files:  # empty, after the last byte
            stages[file.folder].append(file.name, memoryview(b""), last=True, sha256=file.entry.sha256)

    def _heal(self) -> list[int]:
        """Write the shards of the places anew that something is wrong with; returns which have a good one now."""
        head = self.head
        sick = {number: self.shelves[number].place for number in self.shards.wrong if number not in self.shards.down}
        new = NewShards(sick, head.version)
        try:
            stripes = range(head.stripes) if sick else ()
            progress = track(stripes, f"healing {head.name}") if sick else ()
            for stripe, chunks in zip(progress, self.shards.stripes(stripes), strict=True):
                data = rebuild(chunks, head.need)
                whole = [*data, *encode(data, head.places)]
                for number in sick:
                    new.write(number, self.cipher.seal(number, stripe, whole[number]))
            new.finish(head.shard_size)
        except RunFailed:  # the set is restored all the same
            new.failed |= dict.fromkeys(sick, "others failed meanwhile")
        healed = []
        for number in sorted(sick.keys() - new.failed.keys()):
            shelf = self.shelves[number]
            try:
                shelf.place.answer(publish(shelf, new.tags[number], head, self.key))
            except PlaceFailed as failure:
                new.failed[number] = str(failure)
                continue
            clean(shelf, head, set())
            healed.append(number)
        for number, why in new.failed.items():
            self.shards.wrong[number] += f"; not healed: {why}"
        new.remove(but=healed)
        return healed


def _start(name: str, folders: Mapping[str, Path]) -> str | None:
    """The beginning of a name that there is a folder for."""
    return max((start for start in folders if name.startswith(start)), key=len, default=None)
