"""Archives and compressed files: what lies in them is looked at as files of their own."""

from __future__ import annotations

import bz2
import lzma
import posixpath
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

from robustml.scanning.findings import Scan
from robustml.scanning.pickles import follow
from robustml.scanning.streams import storages
from robustml.scanning.windows import TooMuch, Window, copied

_DIRECTORY, _SPOOLED, _MEMORY = 16 * 2**20, 16 * 2**20, 256 * 2**20
_LOCAL, _END = struct.Struct("<4s5H3I2H"), b"PK\x05\x06"
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


def scan_zip(scan: Scan, window: Window, where: str, depth: int) -> str:
    """Look at every entry of a zip, by its place in it: names may stand there twice."""
    _check_directory(window)
    with zipfile.ZipFile(window) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        names = [entry.filename for entry in entries]
        first = min((entry.header_offset for entry in archive.infolist()), default=0)
        if first:
            scan.refuse(where, f"is a zip behind {first:,} bytes of something else")
        for name in sorted({name for name in names if names.count(name) > 1} if len(names) < 10_000 else ()):
            scan.refuse(where, f"holds {name} more than once")
        roots = {posixpath.dirname(name) for name in names if posixpath.basename(name) == "data.pkl"}
        code = [name for name in names if any(name.startswith(f"{root}/code/") for root in roots)]
        if code:
            more = f" and {len(code) - 1} more" if len(code) > 1 else ""
            scan.refuse(where, f"is TorchScript, which holds code of its own: {code[0]}{more}")
        # What torch reads first says which entries are numbers without a format of their own.
        entries.sort(key=lambda entry: posixpath.basename(entry.filename) != "data.pkl")
        seen: dict[str, dict[str, int]] = {root: {} for root in roots}
        for entry in entries:
            _check_name(scan, entry.filename, where)
            _entry(scan, archive, window, entry, where, depth, seen)
    return "torch" if roots else "zip"


def _entry(
    scan: Scan, archive: zipfile.ZipFile, window: Window, entry: zipfile.ZipInfo, where: str, depth: int,
    seen: dict[str, dict[str, int]],
) -> None:  # fmt: skip
    name = f"{where}!{entry.filename}"
    if entry.flag_bits & 1:
        scan.refuse(name, "is encrypted, so that nothing can be said of it")
        return
    if entry.compress_type not in _READ:
        scan.refuse(name, f"is compressed in a way that is not read here ({entry.compress_type})")
        return
    if entry.compress_type == zipfile.ZIP_STORED:
        archive.open(entry).close()  # refuses an entry whose two headers differ
        header = _LOCAL.unpack(window.at(entry.header_offset, _LOCAL.size))
        start = entry.header_offset + _LOCAL.size + header[-2] + header[-1]
        if entry.compress_size != entry.file_size or start + entry.file_size > window.size:
            scan.refuse(name, "is stored with another size than it has")
            return
        _member(scan, window.part(start, entry.file_size), entry, where, depth, seen)
        return
    with tempfile.SpooledTemporaryFile(_SPOOLED) as file, archive.open(entry) as content:
        copied(content.read, file, scan.budget)
        _member(scan, Window(file), entry, where, depth, seen)


def _member(
    scan: Scan, member: Window, entry: zipfile.ZipInfo, where: str, depth: int, seen: dict[str, dict[str, int]]
) -> None:
    """A member of a zip: of torch's own, its pickle knows storages, and those are numbers."""
    folder, base = posixpath.split(entry.filename)
    name = f"{where}!{entry.filename}"
    if base == "data.pkl":
        scan.budget.file()
        scan.files[name] = "pickle"
        found = follow(member, scan.budget, storages(seen[folder]))
        scan.take(name, found)
        if found.damaged:
            scan.refuse(name, f"cannot be followed: {found.damaged}")
        elif found.end < member.size:
            scan.refuse(name, f"holds {member.size - found.end:,} bytes behind its end (byte {found.end:,})")
        return
    root, of = posixpath.split(folder)
    if of == "data" and root in seen and (base in seen[root] or base.isdecimal()):
        size = seen[root].get(base, 0)
        if size > member.size:
            scan.refuse(name, f"has {member.size:,} bytes, and its pickle names {size:,}")
        found = follow(member, scan.budget)
        if found.certain or (not (found.damaged or found.end < member.size) and found.lines):
            scan.take(name, found)
        scan.budget.file()
        scan.files[name] = "storage"
        return
    scan.look(member, name, depth + 1)


def _check_directory(window: Window) -> None:
    """Refuse a zip with more entries than a scan makes room for."""
    place, size = end_of_zip(window)
    if size > _DIRECTORY:
        raise TooMuch(f"its list of entries has {size:,} bytes")
    if place < 0:
        raise ValueError("its list of entries is missing")


def end_of_zip(window: Window) -> tuple[int, int]:
    """Where a zip's last record begins, and how many bytes its list of entries has; -1 where there is none."""
    start = max(0, window.size - 2**16 - 22)
    tail = window.at(start, 2**16 + 22)
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < 22:
        return -1, 0
    size = int.from_bytes(tail[place + 12 : place + 16], "little")
    if size == 2**32 - 1 and (far := tail.rfind(b"PK\x06\x06", 0, place)) >= 0:
        size = int.from_bytes(tail[far + 40 : far + 48], "little")
    return start + place, size


def hides_a_zip(window: Window) -> bool:
    """Whether a reader of zips would find one in a file that does not begin as one."""
    place, size = end_of_zip(window)
    if place < 0:
        return False
    # before the last record stands the list of entries, or in large files two records of 76 bytes
    return any(window.at(max(0, place - size - gap), 4) == b"PK\x01\x02" for gap in (0, 76))


def scan_tar(scan: Scan, window: Window, where: str, depth: int) -> str:
    """Look at every file of a tar."""
    window.seek(0)
    with tarfile.open(fileobj=window, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            _check_name(scan, member.name, where)
            name = f"{where}!{member.name}"
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                scan.refuse(name, "is a link, a device or has holes: no ordinary file")
                continue
            scan.look(window.part(member.offset_data, member.size), name, depth + 1)
    return "tar"


def is_tar(window: Window) -> bool:
    """Whether it begins with the header of a file in a tar, whose checksum holds."""
    try:
        tarfile.TarInfo.frombuf(window.at(0, 512), "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


_PARTS = ("gzip", "bzip2", "xz")
_OPENERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "zlib": zlib.decompressobj,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY),
}


def scan_compressed(scan: Scan, window: Window, where: str, depth: int, kind: str) -> str:
    """Look at what is compressed; several parts behind each other are one file."""
    with tempfile.SpooledTemporaryFile(_SPOOLED) as file:
        _unpacked(scan, window, kind, file)
        if window.tell() < window.size:
            left = window.size - window.tell()
            scan.refuse(where, f"holds {left:,} bytes behind its end (byte {window.tell():,})")
        return f"{kind}, in it {scan.look(Window(file), f'{where}!', depth + 1)}"


def _unpacked(scan: Scan, window: Window, kind: str, file: IO[bytes]) -> None:
    magic = window.at(0, 3)
    window.seek(0)
    while not window.tell() or (kind in _PARTS and window.at(window.tell(), 3) == magic):
        opener = _OPENERS[kind]()
        while not opener.eof:
            content = getattr(opener, "unconsumed_tail", b"")  # zlib's: what it was not to unpack at once
            if not content and getattr(opener, "needs_input", True):
                content = window.read(2**16)
            out = opener.decompress(content, 2**18)
            if not (content or out or opener.eof):
                raise EOFError("it is cut off")
            scan.budget.unpack(len(out))
            file.write(out)
        window.seek(window.tell() - len(opener.unused_data))


def _check_name(scan: Scan, name: str, where: str) -> None:
    """Refuse a name that leads out of the folder that an archive is unpacked into."""
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
        scan.refuse(where, f"holds {name}, which leads out of it")
