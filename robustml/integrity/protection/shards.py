"""Reading and writing the shards of one version, stripe by stripe, in all places at once."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress

from robustml.integrity.protection.erasure import Chunk
from robustml.integrity.protection.heads import Cipher, Head
from robustml.integrity.protection.places import Answer, Place, PlaceFailed
from robustml.integrity.protection.shelves import Shelf, too_few
from robustml.integrity.protection.stores import Readable, Writable, write_whole

# So many stripes are on their way from or to each place: memory is flat, and no place waits for the others.
_AHEAD = 2


class Shards:
    """The shards of a version, as far as the places have them.

    Args:
        shelves: what the places have.
        head: of the version.
        cipher: of the version.

    Attributes:
        wrong: what is wrong with a place, by its number; more is found while stripes are read.
        down: the places that did not answer.
    """

    def __init__(self, shelves: Sequence[Shelf], head: Head, cipher: Cipher) -> None:
        self._shelves, self._head, self._cipher = shelves, head, cipher
        self.wrong = {shelf.number: said for shelf in shelves if (said := shelf.against(head)) is not None}
        self.down = {shelf.number for shelf in shelves if shelf.down}
        self._files = {shelf.number: own[1].file for shelf in shelves if (own := shelf.head(head.group)) is not None}
        self._open: dict[int, Readable] = {}

    def check_sizes(self) -> None:
        """Note the shards that are of another size than they should be."""
        asked = {number: self._place(number).ask(self._size, number) for number in self._files}
        for number, future in asked.items():
            size = self._answer(number, future)
            if size is not None and size != self._head.shard_size:
                self.wrong[number] = f"altered: {size:,} bytes, not {self._head.shard_size:,}"

    def check_count(self) -> None:
        """Refuse where too few places have a shard at all.

        Raises:
            RunFailed: they have.
        """
        if len(self._files) < self._head.need:
            raise too_few(self._shelves, self._head, len(self._files), self.wrong)

    def stripes(self, wanted: Iterable[int]) -> Iterator[dict[int, Chunk]]:
        """For each of these stripes the good chunks, by the number of their place.

        Raises:
            RunFailed: they are too few.
        """
        waiting: deque[tuple[int, dict[int, Future[bytes]]]] = deque()
        for stripe in wanted:
            asked = {number: self._place(number).ask(self._read, number, stripe) for number in self._files}
            waiting.append((stripe, asked))
            if len(waiting) > _AHEAD:
                yield self._opened(*waiting.popleft())
        while waiting:
            yield self._opened(*waiting.popleft())

    def _opened(self, stripe: int, asked: Mapping[int, Future[bytes]]) -> dict[int, Chunk]:
        good: dict[int, Chunk] = {}
        for number, future in asked.items():
            if number not in self._files or (sealed := self._answer(number, future)) is None:
                continue
            chunk = self._cipher.open(number, stripe, sealed)
            if chunk is None:
                self.wrong.setdefault(number, f"altered in stripe {stripe + 1} of {self._head.stripes}")
            else:
                good[number] = chunk
        if len(good) < self._head.need:
            raise too_few(self._shelves, self._head, len(good), self.wrong)
        return good

    def close(self) -> None:
        """Close what was read from."""
        for number, file in self._open.items():
            if number not in self.down:
                with suppress(PlaceFailed):
                    self._place(number).answer(self._place(number).ask(file.close))

    def _answer(self, number: int, future: Future[Answer]) -> Answer | None:
        """What came of it; a place that failed is asked no more."""
        try:
            return self._place(number).answer(future)
        except PlaceFailed as failure:
            self.wrong[number] = str(failure)
            if str(failure) != "lost":
                self.down.add(number)
            self._files.pop(number, None)
            return None

    def _place(self, number: int) -> Place:
        return self._shelves[number].place

    def _size(self, number: int) -> int:
        return self._place(number).store.size(self._files[number])

    def _read(self, number: int, stripe: int) -> bytes:
        if number not in self._open:
            self._open[number] = self._place(number).store.read(self._files[number])
        begin, length = self._head.sealed(stripe)
        self._open[number].seek(begin)
        sealed = bytearray()
        while piece := self._open[number].read(length - len(sealed)):
            sealed += piece
        return bytes(sealed)


class NewShards:
    """Shards that are being written, in some of the places.

    Args:
        places: those, by their number.
        version: of the set.

    Attributes:
        tags: of the files, by the number of the place; `files` are their names.
        failed: why a place did not take its shard.
    """

    def __init__(self, places: Mapping[int, Place], version: int) -> None:
        self.places = dict(places)
        self.tags = {number: secrets.token_hex(8) for number in places}
        self.failed: dict[int, str] = {}
        self.files = {number: f"robustml-{version:08}-{tag}.shard" for number, tag in self.tags.items()}
        self._open: dict[int, Writable] = {}
        self._waiting: dict[int, deque[Future[None]]] = {number: deque() for number in places}

    def write(self, number: int, sealed: bytes) -> None:
        """Append to the shard of a place; one that failed is passed over."""
        if number in self.failed:
            return
        waiting = self._waiting[number]
        waiting.append(self.places[number].ask(self._append, number, sealed))
        if len(waiting) > _AHEAD:
            self._wait(number, waiting.popleft())

    def finish(self, size: int) -> None:
        """Close the shards, and see that every place has so many bytes."""
        last = {number: place.ask(self._whole, number, size) for number, place in self.places.items()}
        for number, future in last.items():
            for waiting in [*self._waiting[number], future]:
                if number not in self.failed:
                    self._wait(number, waiting)

    def remove(self, but: Collection[int] = ()) -> None:
        """Take back what was written, where that can be done."""
        asked = {number: place.ask(self._remove, number) for number, place in self.places.items() if number not in but}
        for number, future in asked.items():
            if number not in self.failed:  # what a place that failed leaves there the next protect removes
                self._wait(number, future)

    def _wait(self, number: int, future: Future[None]) -> None:
        try:
            self.places[number].answer(future)
        except PlaceFailed as failure:
            self.failed[number] = str(failure)

    def _append(self, number: int, sealed: bytes) -> None:
        if number not in self._open:
            self._open[number] = self.places[number].store.write(self.files[number])
        self._open[number].write(sealed)

    def _whole(self, number: int, size: int) -> None:
        self._append(number, b"")  # an empty set has a shard, too
        write_whole(self._open.pop(number))
        if (found := self.places[number].store.size(self.files[number])) != size:
            raise OSError(f"it took {size:,} bytes and has {found:,}")

    def _remove(self, number: int) -> None:
        if (file := self._open.pop(number, None)) is not None:
            with suppress(Exception):  # a full disk says so once more
                file.close()
        self.places[number].store.remove(self.files[number])
