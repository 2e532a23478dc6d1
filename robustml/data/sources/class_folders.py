"""Folders of class folders: which files are read, under which class, and what is passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from robustml.data.sources.parts import absent
from robustml.data.sources.stored import PartFiles
from robustml.data.understood import Skipped, Understood
from robustml.errors import RequestError

# What desktops, notebooks, archives and network drives leave behind; names that begin with a dot are passed over too.
_LEFT_BEHIND = "hidden, or left behind by other programs"
_RUBBISH = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found", "thumbs.db", "desktop.ini"}
_PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}


class ClassFolders(NamedTuple):
    """What a folder of class folders holds.

    Args:
        files: each file with its class, in the order of the names, whatever that of the file system.
        classes: the names of the class folders, sorted, of those without a file too.
        folders: the class folders.
        others: files that are passed over, but for rubbish.
        understood: what was passed over.
    """

    files: list[tuple[Path, str]]
    classes: tuple[str, ...]
    folders: tuple[Path, ...]
    others: tuple[Path, ...]
    understood: Understood

    def known_by(self) -> tuple[Path, ...]:
        """What the content, and what is said of it, depends on: for the key of a cache."""
        return (*self.folders, *(path for path, _ in self.files), *self.others)

    def kept_in(self, root: Path) -> PartFiles:
        """All files but rubbish, in the order of their names."""
        others = [path for path in self.others if path.is_file()]
        return PartFiles(root, tuple(sorted([*(path for path, _ in self.files), *others])))


def class_folders(root: Path, suffixes: frozenset[str], kind: str) -> ClassFolders:
    """Look through a folder.

    Args:
        root: holds one folder a class; what lies deeper belongs to the class too, links followed.
        suffixes: of the files to be read, in lower case with the dot; ``.JPG`` is as good as ``.jpg``.
        kind: what these files are, in the plural, for messages.

    Raises:
        RequestError: there is no such folder, it holds no class folder or no file to read, it cannot be read, or it
            holds the parts of a set (train, test) rather than classes.
    """
    if not root.is_dir():
        raise absent(root, "folder")
    passed: dict[str, list[Path]] = {}
    kept = []
    for path in _entries(root):
        if _is_rubbish(path.name):
            passed.setdefault(_LEFT_BEHIND, []).append(path)
        elif path.is_dir():
            kept.append(path)
        else:
            passed.setdefault("outside the class folders", []).append(path)
    if not kept:
        raise RequestError(
            f"{root}: expected one folder a class, found none; sort the {kind} into class folders, or name another "
            "folder"
        )
    _refuse_parts(root, kept)
    files = [(path, folder.name) for folder in kept for path in _walk(folder, suffixes, passed)]
    if not files:
        raise RequestError(
            f"{root}: no {kind} in its class folders; known are {', '.join(sorted(suffixes))}"
            + "".join(f"; {len(paths)} files were {why}" for why, paths in passed.items())
        )
    full = {name for _, name in files}
    empty = [folder.name for folder in kept if folder.name not in full]
    understood = Understood(
        skipped=tuple(
            Skipped(why, len(paths), tuple(str(path.relative_to(root)) for path in paths[:3]))
            for why, paths in passed.items()
        ),
        notes=tuple(f"the class folder {name!r} holds no {kind}: a class without a sample" for name in empty),
    )
    others = tuple(path for why, paths in passed.items() if why != _LEFT_BEHIND for path in paths if path.exists())
    return ClassFolders(files, tuple(folder.name for folder in kept), tuple(kept), others, understood)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise RequestError(f"cannot look into {folder}: {error.strerror or error}") from error


def _is_rubbish(name: str) -> bool:
    return name.startswith(".") or name.lower() in _RUBBISH


def _walk(
    folder: Path, suffixes: frozenset[str], passed: dict[str, list[Path]], above: frozenset[int] = frozenset()
) -> Iterator[Path]:
    """The files to be read below `folder`, sorted; what is passed over goes into `passed`, by reason."""
    above |= {folder.stat().st_ino}
    for path in _entries(folder):
        if _is_rubbish(path.name):
            passed.setdefault(_LEFT_BEHIND, []).append(path)
        elif path.is_dir():
            if path.stat().st_ino in above:
                passed.setdefault("links to a folder that they lie in", []).append(path)
            else:
                yield from _walk(path, suffixes, passed, above)
        elif path.suffix.lower() in suffixes:
            yield path
        else:
            why = f"of the unknown kind {path.suffix.lower()}" if path.suffix else "without a suffix"
            passed.setdefault(why, []).append(path)


def _refuse_parts(root: Path, folders: list[Path]) -> None:
    """Refuse a folder of train and test folders, and one that only holds the folder that was meant."""
    inside = {folder: len(_folders_in(folder)) for folder in folders}
    named = [folder for folder in folders if folder.name.lower() in _PARTS]
    parts = {_PARTS[folder.name.lower()]: folder for folder in named if inside[folder]}
    if len(named) > 1 and ("train" in parts or len(named) == len(folders)):
        if "train" in parts:
            other = parts.get("test", parts.get("val"))
            remedy = f"use data.source.train={parts['train']}" + (f" data.source.test={other}" if other else "")
        else:
            remedy = (
                "sort each part into class folders, and name one as data.source.train and another as data.source.test; "
                "rename them if they are classes"
            )
        raise RequestError(
            f"{root} holds the parts of a set ({', '.join(folder.name for folder in named)}), not its classes: {remedy}"
        )
    if len(folders) == 1 and inside[folders[0]] > 1:
        raise RequestError(
            f"{root} holds the one folder {folders[0].name!r}, with {inside[folders[0]]} folders in it, which look "
            f"like the classes: name {folders[0]}"
        )


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if not _is_rubbish(entry.name) and entry.is_dir()]
