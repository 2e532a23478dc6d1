"""Names of files that a stranger wrote into a manifest, a signature or a shard: refused before anything is opened.

A name is a path relative to a folder, its parts apart by ``/``. What could lead out of the folder, mean a device, or be
one file here and another elsewhere is refused.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from robustml.errors import RequestError, printable

# Windows takes these for devices, whatever ending they have.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_JOINERS = "\u200c\u200d"
_LONGEST, _LONGEST_PART = 4096, 255


def wrong_with(name: object) -> str | None:
    """What is wrong with a relative name, or None where it may be used below a folder."""
    if not isinstance(name, str) or not name:
        return "it is empty" if name == "" else "it is no text"
    if not (name.isascii() and name.isprintable()) and any(map(_unseen, name)):
        return "it holds a control character, or one that is not seen"
    if "\\" in name:
        return "it holds a backslash"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "it is absolute"
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a part of it is empty, '.' or '..'"
    if any(part != part.rstrip(" .") or _DEVICE.fullmatch(part) for part in parts):
        return "a part of it means something else on Windows: a device, or a point or space at the end"
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in parts):
        return "it is longer than a file system takes"
    return None


def check_names(names: Iterable[str], where: object) -> None:
    """Refuse names that a folder must not be read or written by, or that cannot stand beside each other everywhere.

    Args:
        names: all that stand in one manifest, one signature or one shard.
        where: what they stand in, for the message.

    Raises:
        RequestError: names the first that is hostile, stands there twice, is equal to another but for case or Unicode
            form, or is a file and a folder at once.
    """
    files: set[str] = set()
    folders: set[str] = set()
    spelt: dict[str, str] = {}
    for name in names:
        wrong = wrong_with(name)
        path = name if wrong is None else ""
        while path and path not in folders:  # the name itself, and the folders that it is the first to name
            if (other := spelt.setdefault(fold(path), path)) != path:
                wrong = f"{_shown(other)} differs from {_shown(path)} in case or Unicode form only"
            if path != name:
                folders.add(path)
            path = path.rpartition("/")[0]
        if wrong is None and name in files:
            wrong = "it stands there twice"
        if wrong is not None:
            raise RequestError(f"{where} is refused: it names {_shown(name)}: {wrong}")
        files.add(name)
    for folder in folders & files:
        raise RequestError(f"{where} is refused: it names {_shown(folder)} as a file and as a folder")


def fold(name: str) -> str:
    """The form in which names are equal that some file system takes for one: without case, canonically decomposed."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def below(folder: Path, name: str) -> Path:
    """The ordinary file `name` below `folder`, no part of its path a link; it may be absent.

    Raises:
        RequestError: the name is hostile; a part is a link; what lies there is no ordinary file.
    """
    if wrong := wrong_with(name):
        raise RequestError(f"{_shown(name)} is refused: {wrong}")
    path = Path(folder) / name
    for inner in [*(Path(folder) / parent for parent in _parents(name)), path]:
        if wrong := _wrong_on_disk(inner, is_folder=inner != path):
            raise RequestError(f"{printable(str(inner))} is refused: {wrong}")
    return path


def files_below(folder: Path, ignored: Collection[str] = ()) -> Iterator[tuple[str, str | None]]:
    """All that lies below a folder, in no order: the name of each file, and why it is refused, or None where it is not.

    Args:
        folder: it may itself be a link: who named it meant it.
        ignored: names of files and folders, relative to it, that are passed over with all that they hold.

    Raises:
        RequestError: a folder cannot be read.
    """
    folder = Path(folder)
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(folder / inside) as found:
                entries = list(found)
        except OSError as error:
            raise RequestError(f"cannot read {folder / inside}: {error.strerror or error}") from error
        for entry in entries:
            name = f"{inside}{entry.name}"
            if name in ignored:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{name}/")
            else:
                yield name, wrong_with(name) or _wrong_on_disk(Path(entry.path), is_folder=False)


def _wrong_on_disk(path: Path, is_folder: bool) -> str | None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None  # absent: whoever opens it says so
    if stat.S_ISLNK(mode):
        return "it is a link"
    if is_folder:
        return None if stat.S_ISDIR(mode) else "it is no folder"
    return None if stat.S_ISREG(mode) else "it is no ordinary file"


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _unseen(letter: str) -> bool:
    return letter not in _JOINERS and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _shown(name: object) -> str:
    return repr(printable(str(name))[:200])
