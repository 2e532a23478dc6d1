"""`robustml data restore`: a protected set, bit-identical, from any few of its places; and only some of its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from robustml.errors import RequestError, RunFailed
from robustml.integrity.protection import Restored, restore
from robustml.workflows.integrity.auditing import audited

DATA, MANIFEST = "data/", "manifest/"
"""What the names of files begin with: those of the set, and those of its manifest."""


def restore_data(
    places: Sequence[str],
    key: Path | str,
    out: Path | str | None,
    *,
    manifest: Path | str | None = None,
    timeout: float = 30.0,
) -> Restored:
    """Restore a protected set, and heal its places.

    Args:
        places: all of them, in order; see `robustml.integrity.protection.restore`, as of `key` and `timeout`.
        key: of the data.
        out: the folder for the set; one that holds it is mended. None heals the places only.
        manifest: the folder for its manifest; None leaves it where it is.
        timeout: in seconds.

    Raises:
        RequestError: see `restore`.
        RunFailed: too few places are good, and nothing was changed; or, where they were only to be healed, one could
            not be.
    """
    folders = {start: folder for start, folder in ((DATA, out), (MANIFEST, manifest)) if folder is not None}
    restored = _audited(places, key, folders, timeout=timeout)
    ill = [f"{place}: {wrong}" for place, wrong in restored.wrong.items() if place not in restored.healed]
    if not folders and ill:
        raise RunFailed(f"{len(restored.healed)} of {len(restored.wrong)} places could be healed ({'; '.join(ill)})")
    return restored


def heal_files(
    files: Iterable[Path | str], top: Path | str, places: Sequence[str], key: Path | str, *, timeout: float = 30.0
) -> Restored:
    """Put files of a set back in their place, as they were protected; the others, and the places, are left alone.

    Args:
        files: those that were altered or lost.
        top: the folder that the set lies in, as `set_files` has it.
        places: all of them, in order.
        key: of the data.
        timeout: in seconds.

    Returns:
        What was restored; each file takes its place whole.

    Raises:
        RequestError: one of them is not of the protected set; and see `restore`.
        RunFailed: too few places are good; nothing was changed.
    """
    top = Path(top).absolute()
    try:
        only = [f"{DATA}{Path(file).absolute().relative_to(top).as_posix()}" for file in files]
    except ValueError as error:
        raise RequestError(f"{error}: only files below it can be put back") from error
    return _audited(places, key, {DATA: top}, only=only, heal=False, timeout=timeout)


def _audited(places: Sequence[str], key: Path | str, folders: dict[str, Path | str], **options: Any) -> Restored:
    with audited("restored", into=", ".join(map(str, folders.values()))) as told:
        done = restore(places, key, folders, **options)
        told.subjects[done.name] = done.digest
        told.facts |= {"version": done.version, "files": len(done.files), "healed": ", ".join(done.healed)}
    return done
