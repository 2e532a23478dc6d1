"""Parts of files that are read as files of their own, and what a scan may spend on them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import IO, Protocol

# No reader of ours needs more at once; one that is told to by a file gets what a file that ends there would give.
_AT_ONCE = 64 * 2**20
_KEPT = 2**16
_NUMBER, _FOREIGN = re.compile(rb"-?[0-9]{1,30}L?\n"), re.compile(rb"[\x80-\xff]")
_UNPACKED, _SMALL, _LARGEST = 100, 64 * 2**20, 16 * 2**30
_OPCODES, _FILES, _DEPTH = 10_000_000, 100_000, 6


class TooMuch(Exception):
    """More than a scan spends on a file, which says what."""


class Budget:
    """What a scan may still spend.

    Args:
        packed: bytes of the file, of which it may unpack a hundred times as many, or 64 MiB.
    """

    depth = _DEPTH

    def __init__(self, packed: int) -> None:
        self.unpacked = min(_LARGEST, max(_SMALL, _UNPACKED * packed))
        self.opcodes, self.files = _OPCODES, _FILES

    def unpack(self, number: int) -> None:
        """Take so many bytes off what may be unpacked."""
        self.unpacked -= number
        if self.unpacked < 0:
            raise TooMuch("it unpacks to far more than its size")

    def file(self) -> None:
        """Take a file off those that may be looked at."""
        self.files -= 1
        if self.files < 0:
            raise TooMuch(f"it holds more than {_FILES:,} files")

    def opcode(self) -> None:
        """Take an opcode off those that may be followed."""
        self.opcodes -= 1
        if self.opcodes < 0:
            raise TooMuch(f"its pickles have more than {_OPCODES:,} opcodes")


class Readable(Protocol):
    """What a window needs of a file."""

    def read(self, size: int = ..., /) -> bytes: ...  # noqa: D102
    def readline(self, size: int = ..., /) -> bytes: ...  # noqa: D102
    def seek(self, offset: int, whence: int = ..., /) -> int: ...  # noqa: D102


class Window:
    """Bytes `start` to `start + size` of a file, as a binary file; several may lie on one file."""

    def __init__(self, file: Readable, start: int = 0, size: int | None = None) -> None:
        end = file.seek(0, io.SEEK_END)
        self._file, self._start, self._place = file, start, 0
        self.size = max(0, end - start if size is None else min(size, end - start))

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes, and at most 64 MiB."""
        left = max(0, self.size - self._place)
        self._file.seek(self._start + self._place)
        content = self._file.read(min(_AT_ONCE, left if size is None or size < 0 else min(size, left)))
        self._place += len(content)
        return content

    def readline(self, size: int = -1, /) -> bytes:
        """The bytes up to a line's end, at most 64 MiB."""
        left = max(0, self.size - self._place)
        self._file.seek(self._start + self._place)
        content = self._file.readline(min(_AT_ONCE, left if size < 0 else min(size, left)))
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Stand elsewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Where the window stands."""
        return self._place

    def seekable(self) -> bool:
        """It is."""
        return True

    def at(self, place: int, size: int) -> bytes:
        """So many bytes from `place` on, without moving."""
        before, self._place = self._place, place
        content = self.read(size)
        self._place = before
        return content

    def part(self, start: int, size: int | None = None) -> Window:
        """A window on a part of this one."""
        left = max(0, self.size - start)
        return Window(self._file, self._start + start, left if size is None else min(size, left))


class _Passed(bytes):
    """Bytes that were not read, and say nothing but how many they were."""

    claimed = 0

    def __len__(self) -> int:
        return self.claimed


class Opcodes:
    """A window as `pickletools.genops` reads it.

    Long arguments, which are data, are passed over and not held. Lines that `pickletools` refuses and unpicklers take
    (letters outside of ASCII, hexadecimal numbers, a file that ends within a line) are made such as it takes.
    """

    def __init__(self, window: Window) -> None:
        self.window, self.tell, self._opcode = window, window.tell, b""

    def read(self, size: int) -> bytes:
        """An opcode, or an argument."""
        window = self.window
        if size <= _KEPT:
            self._opcode = window.read(size)
            return self._opcode
        passed = _Passed()
        passed.claimed = min(size, max(0, window.size - window.tell()))
        window.seek(passed.claimed, io.SEEK_CUR)
        return passed

    def readline(self) -> bytes:
        """An argument of the opcodes of old."""
        line = self.window.readline()
        if len(line) >= _AT_ONCE:
            raise TooMuch(f"a line of it has more than {_AT_ONCE:,} bytes")
        # where a file ends within a line, unpicklers take its last letter for the line's end
        line = line if line.endswith(b"\n") else line[:-1] + b"\n"
        if self._opcode in b"ci":
            return b"name\n"  # read from the bytes, see `pickles.py`
        if self._opcode in b"IL" and not _NUMBER.fullmatch(line):
            return b"9" * 40 + b"\n"
        return line if self._opcode == b"V" else _FOREIGN.sub(b"?", line)


def copied(read: Callable[[int], bytes], target: IO[bytes], budget: Budget) -> None:
    """Copy what `read` gives, until it gives nothing."""
    while content := read(2**18):
        budget.unpack(len(content))
        target.write(content)
