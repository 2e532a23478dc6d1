"""Say of a file, or of each in a folder, what loading it could run; nothing in it is loaded.

Kinds are told by what files begin with, not by their names. An allow-list all through: what is of no kind that is known
here is refused, as is every pickle that needs more than weights do. Whatever else a file is, it is followed as a pickle
too, and searched for a zip at its end: a file can be two things at once.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from robustml.errors import RequestError
from robustml.files import opened
from robustml.scanning.archives import hides_a_zip, is_tar, scan_compressed, scan_tar, scan_zip
from robustml.scanning.arrays import NoArray, npy_objects
from robustml.scanning.findings import Scan, Scanned
from robustml.scanning.pickles import follow
from robustml.scanning.streams import scan_pickles
from robustml.scanning.weights import is_safetensors, scan_safetensors
from robustml.scanning.windows import Budget, TooMuch, Window

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"]\0\0": "lzma"}
_ZLIB = (b"x\x01", b"x^", b"x\x9c", b"x\xda")
_HARMLESS = {
    b"\x89PNG\r\n\x1a\n": "picture", b"\xff\xd8\xff": "picture", b"GIF8": "picture", b"PAR1": "Parquet",
    b"%PDF-": "PDF", b"ARROW1": "Arrow",
}  # fmt: skip
_REFUSED = {
    b"\x89HDF\r\n\x1a\n": "HDF5, which is not read here: a Keras model in it may hold Lambda layers, which are code",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive, which is not readable here: unpack it and scan what was in it",
    b"Rar!\x1a\x07": "a RAR archive, which is not readable here: unpack it and scan what was in it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd, which is not readable here: unpack it first",
    b"\x04\x22\x4d\x18": "compressed by lz4, which is not readable here: unpack it first",
    b"\x7fELF": "a program (ELF)",
    b"MZ": "a program (PE)",
    **dict.fromkeys((b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe"), "a program (Mach-O or Java)"),
    b"#!": "a script",
}
_SUFFIXES = "py pyc pyd pyo so dll dylib sh bat cmd ps1 exe jar js mjs wasm"
_CODE = frozenset({f".{suffix}" for suffix in _SUFFIXES.split()})
_LINKS, _FOLDERS = 100_000, 40


def scan(path: str | Path) -> Scanned:
    """What loading a file, or any file of a folder, could run.

    Args:
        path: the file or folder.

    Raises:
        RequestError: there is none, it is no file or folder, or cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        with opened(path) as file:
            window = Window(file)
            found = Scan(Budget(window.size), _file)
            _file(found, window, path.name)
        return Scanned(tuple(found.findings), found.files)
    found = Scan(Budget(0), _file)
    for place, where in _walk(path, found):
        try:
            with opened(place) as file:
                window = Window(file)
                found.budget = Budget(window.size)
                _file(found, window, where)
        except RequestError as error:
            found.refuse(where, str(error))
    return Scanned(tuple(found.findings), found.files)


def reason(path: str | Path) -> str:
    """What loading a file would call or import beyond what weights need, in few words; nothing where it is nothing."""
    said = [finding.what for finding in scan(path).findings if finding.name]
    more = f" (and {len(said) - 2} more)" if len(said) > 2 else ""
    return f"it {' and '.join(said[:2])}{more}" if said else ""


def _walk(folder: Path, scan: Scan) -> list[tuple[Path, str]]:
    """The files below a folder, by name; links out of it are refused."""
    home, left = Path(os.path.realpath(folder)), [(folder, 0)]
    found: list[tuple[Path, str]] = []
    while left:
        place, depth = left.pop()
        try:
            entries = sorted(place.iterdir())
        except OSError as error:
            if place == folder:
                raise RequestError(f"cannot read {folder}: {error.strerror or error}") from error
            scan.refuse(str(place.relative_to(folder)), f"cannot be read: {error.strerror or error}")
            continue
        for entry in entries:
            where = str(entry.relative_to(folder))
            if len(found) >= _LINKS or depth > _FOLDERS:
                scan.refuse(where, f"is one of more than {_LINKS:,} files, or nested more than {_FOLDERS} deep")
                return found
            if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(home):
                scan.refuse(where, "is a link that leads out of the folder")
            elif entry.is_symlink() and entry.is_dir():
                continue  # where it leads to is looked at there
            elif entry.is_dir():
                left.append((entry, depth + 1))
            else:
                found.append((entry, where))
    return sorted(found, key=lambda pair: pair[1])


def _file(scan: Scan, window: Window, where: str, depth: int = 0) -> str:
    """Look at a file; whatever cannot be read to its end is refused, since a reader could get further."""
    try:
        return _named(scan, window, where, depth)
    except TooMuch as error:
        if depth:
            raise
        scan.refuse(where, f"is too much for a scan: {error}")
    except Exception as error:  # the archives of strangers make the standard library raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        scan.refuse(where, f"is damaged: {reason}")
    return "damaged"


def _named(scan: Scan, window: Window, where: str, depth: int) -> str:
    scan.budget.file()
    if depth > scan.budget.depth:
        raise TooMuch(f"it is nested more than {scan.budget.depth} deep")
    scan.files[where] = "unknown"
    kind = _kind(scan, window, where, depth)
    scan.files[where] = kind
    if PurePosixPath(where.rpartition("!")[2]).suffix.lower() in _CODE:
        scan.refuse(where, "is code, by its name")
    return kind


def _kind(scan: Scan, window: Window, where: str, depth: int) -> str:
    head = window.at(0, 64)
    if not head:
        scan.refuse(where, "is empty")
        return "empty"
    if head.startswith(_ZIP):
        kind = scan_zip(scan, window, where, depth)
    elif head[:1] == b"\x80" and not is_safetensors(window):
        return scan_pickles(scan, window, where)  # all of it, so that nothing is left to look at
    elif compressed := next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), None):
        kind = scan_compressed(scan, window, where, depth, compressed)
    elif head.startswith(b"\x93NUMPY"):
        kind = _npy(scan, window, where)
    elif is_safetensors(window):
        kind = scan_safetensors(scan, window, where)
    elif is_tar(window):
        kind = scan_tar(scan, window, where, depth)
    else:
        kind = _plain(scan, window, where, depth, head)
    _second_sight(scan, window, where, depth, kind)
    return kind


def _plain(scan: Scan, window: Window, where: str, depth: int, head: bytes) -> str:
    """What has no format that is opened here."""
    if refused := next((what for magic, what in _REFUSED.items() if head.startswith(magic)), None):
        scan.refuse(where, f"is {refused}")
        return refused.partition(",")[0]
    if harmless := next((what for magic, what in _HARMLESS.items() if head.startswith(magic)), None):
        return harmless
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE"):
        return "picture" if head[8:12] == b"WEBP" else "sound"
    if b"brain.Event:" in head:
        return "TensorBoard log"
    if head.startswith(_ZLIB):
        return scan_compressed(scan, window, where, depth, "zlib")
    window.seek(0)
    found = follow(window, scan.budget)
    if not found.damaged and window.tell() == window.size:
        return scan_pickles(scan, window, where)
    if _is_text(window):
        return "text"
    if not found.certain:
        scan.refuse(where, "is of no kind that is known here, so that nothing can be said of it")
    return "unknown"


def _second_sight(scan: Scan, window: Window, where: str, depth: int, kind: str) -> None:
    """Look at a file once more, as a pickle and as a zip behind something else."""
    if kind in ("pickle", "joblib"):
        return
    window.seek(0)
    found = follow(window, scan.budget)
    if found.certain:
        scan.refuse(where, f"is a pickle as well as {kind}")
        scan.take(where, found)
    if kind not in ("zip", "torch", "tar") and hides_a_zip(window):
        scan.refuse(where, f"is a zip as well as {kind}")
        scan_zip(scan, window, where, depth)


def _npy(scan: Scan, window: Window, where: str) -> str:
    try:
        objects = npy_objects(window)
    except NoArray as error:
        scan.refuse(where, f"is a damaged array: {error}")
        return "array"
    if objects:
        found = follow(window, scan.budget)
        scan.take(where, found)
        if found.damaged:
            scan.refuse(where, f"its objects cannot be followed: {found.damaged}")
        elif window.tell() < window.size:
            scan.refuse(where, f"holds {window.size - window.tell():,} bytes behind its objects")
    return "array of objects" if objects else "array"


def _is_text(window: Window) -> bool:
    window.seek(0)
    rest = b""
    while content := window.read(2**20):
        if b"\0" in content:
            return False
        try:
            (rest + content).decode()
            rest = b""
        except UnicodeDecodeError as error:
            rest = (rest + content)[error.start :]
            if len(rest) > 3:
                return False
    return not rest
