"""`robustml data protect`: encrypted copies of a set in several places, any few of which restore it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from robustml.data import Source
from robustml.data.cache import FileSource
from robustml.data.sources.stored import as_stored, common_folder
from robustml.data.splits import Split
from robustml.errors import RequestError
from robustml.integrity.names import files_below
from robustml.integrity.protection import Protected, protect
from robustml.poisoning.files import TEST, TRAIN, write_set
from robustml.workflows.integrity.auditing import audited
from robustml.workflows.integrity.restore import DATA, MANIFEST


class SetFiles(NamedTuple):
    """Where a set lies.

    Args:
        top: the folder that all of it lies in, as in a manifest.
        files: its files, and the folders in it that count although they are empty, by their names below `top`.
    """

    top: Path
    files: dict[str, Path]


def set_files(source: Source) -> SetFiles | None:
    """The files of a set; None where it lies in no files.

    Raises:
        RequestError: they cannot be found, or lie outside the folder of the set.
    """
    stored = as_stored(source)
    lying = [found for part in stored.parts if (found := stored.stored_files(part)) is not None]
    if not lying:
        return None
    top = common_folder(found.root for found in lying)
    files = [file for found in lying for file in found.files]
    inner = getattr(source, "source", source)
    if isinstance(inner, FileSource):
        known = (path for part in stored.parts for path in inner.files(part) or ())
        files += [path for path in known if path.is_dir() and not any(path.iterdir())]
    try:
        return SetFiles(top, {path.absolute().relative_to(top).as_posix(): path for path in files})
    except ValueError as error:
        raise RequestError(f"{str(error).partition(' is not in')[0]} lies outside {top}, where the set is") from error


def protect_data(
    source: Source,
    places: Sequence[str],
    need: int,
    key: Path | str,
    *,
    name: str,
    manifest: Path | str | None = None,
    timeout: float = 30.0,
) -> Protected:
    """Protect the files of a set, and its manifest.

    Args:
        source: the set. One that lies in no files is written as Parquet first, as `robustml poison` does.
        places: see `robustml.integrity.protection.protect`, as of `need`, `key` and `timeout`.
        need: how many of them suffice.
        key: of the data.
        name: what the set is called.
        manifest: a folder that `robustml data manifest` made, with its signature.
        timeout: in seconds.

    Raises:
        RequestError: see `protect`; or there is no such manifest.
        RunFailed: a place did not take its shard.
    """
    files: dict[str, Path] = {}
    if manifest is not None:
        if not Path(manifest).is_dir():
            raise RequestError(f"there is no manifest {manifest}: robustml data manifest makes one")
        found_below = sorted(files_below(Path(manifest)))
        if wrong := next((f"{name} is refused: {why}" for name, why in found_below if why is not None), None):
            raise RequestError(f"{manifest}: {wrong}")
        files = {f"{MANIFEST}{name}": Path(manifest) / name for name, _ in found_below}
    with tempfile.TemporaryDirectory(prefix="robustml-") as folder:
        found = set_files(source) or _written(source, Path(folder))
        files = {f"{DATA}{name}": path for name, path in found.files.items()} | files
        with audited("protected", places=len(places), need=need) as told:
            done = protect(files, places, need, key, name=name, timeout=timeout)
            told.subjects[name] = done.digest
            told.facts["version"] = done.version
        return done


def _written(source: Source, folder: Path) -> SetFiles:
    names: dict[Split, str] = {"train": TRAIN, "test": TEST}
    for part, name in names.items():
        write_set(source.load(part), folder / name)
    return SetFiles(folder, {name: folder / name for name in names.values()})
