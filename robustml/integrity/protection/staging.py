"""Files that are restored: written beside their place, and moved there once all are whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from robustml.errors import RunFailed
from robustml.integrity.names import below
from robustml.integrity.protection.datakey import DataKey


class Stage:
    """Files on their way into a folder: beside it, or in it where it is there."""

    def __init__(self, folder: Path, key: DataKey) -> None:
        self.folder = folder.absolute()
        name = f".{self.folder.name}.{key.name.hex()}.restoring"
        self._path = (self.folder if self.folder.is_dir() else self.folder.parent) / name
        self._missing = [path for path in self._path.parents if not path.exists()]
        shutil.rmtree(self._path, ignore_errors=True)  # of a restore that was killed
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    def add_folder(self, name: str) -> None:
        """A folder that is to be there, whatever is in it."""
        _folder_below(self._path, name).mkdir(parents=True, exist_ok=True)

    def append(self, name: str, part: memoryview, last: bool, sha256: str) -> None:
        """Append to a file; with the last part it must have its digest."""
        if self._file is None:
            path = below(self._path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file, self._digest = path.open("xb"), hashlib.sha256()
        self._file.write(part)
        self._digest.update(part)
        if last:
            self._file.close()
            self._file = None
            if self._digest.hexdigest() != sha256:
                raise RunFailed(f"{name} came out other than it was protected; nothing was changed")

    def move(self) -> None:
        """Let the folder appear, or the files in it, one by one."""
        if not self._path.exists():
            return
        os.sync()  # all at once: there may be a hundred thousand of them
        if not self.folder.exists():
            self._path.rename(self.folder)
            return
        for path in sorted(self._path.rglob("*")):
            name = path.relative_to(self._path).as_posix()
            if path.is_dir():
                _folder_below(self.folder, name).mkdir(exist_ok=True)
            else:
                path.replace(below(self.folder, name))

    def remove(self) -> None:
        """Leave nothing behind of what was not moved."""
        if self._file is not None:
            with suppress(OSError):  # the disk is full still
                self._file.close()
        shutil.rmtree(self._path, ignore_errors=True)
        for path in self._missing:
            with suppress(OSError):  # what was restored lies in it
                path.rmdir()


def _folder_below(folder: Path, name: str) -> Path:
    return below(folder, f"{name}/file").parent
