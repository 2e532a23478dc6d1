"""Whose request is next: the cheap ones before the dear ones, and nobody's hundredth before another's first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# How many seconds later a request comes for each MiB of its body, and for each other one that its client has here.
_MEGABYTE, _ANOTHER = 1.0, 0.05


class Crowded(Exception):
    """It was not a request's turn in time, or the bodies of all of them take too much memory."""


class Turns:
    """The requests between their first byte and their answer. All of it runs in one event loop.

    Args:
        at_once: how many are worked on at once.
        held_bytes: how much the bodies of all others may take; beyond it, the longest is turned away.
    """

    def __init__(self, at_once: int, held_bytes: int) -> None:
        self._free = at_once
        self._most, self._bytes = held_bytes, 0
        self._held: dict[Stay, None] = {}
        self._here: Counter[str] = Counter()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @asynccontextmanager
    async def stay(self, client: str) -> AsyncIterator[Stay]:
        """A request of `client`."""
        stay = Stay(self, client)
        self._here[client] += 1
        try:
            yield stay
        finally:
            self.let_go(stay)
            self._here[client] -= 1
            if not self._here[client]:
                del self._here[client]

    def hold(self, stay: Stay, size: int) -> None:
        """Count a body of `size` bytes by now, and turn away the longest while all are too long together."""
        self._bytes += size - stay.size
        stay.size = size
        self._held[stay] = None
        while self._bytes > self._most:
            longest = max(self._held, key=lambda held: held.size)
            self.let_go(longest)
            longest.turn_away()

    def let_go(self, stay: Stay) -> None:
        """Count the body of this request no longer."""
        if self._held.pop(stay, stay) is None:
            self._bytes -= stay.size

    @asynccontextmanager
    async def turn(self, stay: Stay, seconds: float) -> AsyncIterator[None]:
        """Wait until it is the turn of a request, then work on it.

        Raises:
            Crowded: it was not within `seconds`.
        """
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        place = loop.time() + _MEGABYTE * stay.size / 2**20 + _ANOTHER * (self._here[stay.client] - 1)
        heapq.heappush(self._waiting, (place, next(self._arrivals), mine))
        self._next()
        try:
            async with stay.within(seconds):
                await mine
            self.let_go(stay)
            yield
        except TimeoutError as error:
            raise Crowded(f"other requests took longer than {seconds:g} s; try again") from error
        finally:
            if not mine.cancelled() and mine.done():
                self._free += 1
                self._next()

    def _next(self) -> None:
        while self._free and self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():  # else it has given up
                self._free -= 1
                future.set_result(None)


class Stay:
    """One request: whose it is, how long its body is by now, and the clock of what it waits for."""

    def __init__(self, turns: Turns, client: str) -> None:
        self.client = client
        self.size = 0
        self._turns = turns
        self._clock: asyncio.Timeout | None = None
        self._crowded = False

    def hold(self, size: int) -> None:
        """Say how long the body is by now."""
        self._turns.hold(self, size)

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """A part of the stay that takes so long at most.

        Raises:
            TimeoutError: it took longer.
            Crowded: the request was turned away meanwhile.
        """
        try:
            async with asyncio.timeout(seconds) as self._clock:
                yield
        except TimeoutError:
            if not self._crowded:
                raise
        finally:
            self._clock = None
        if self._crowded:
            raise Crowded("the bodies of all requests are too long together; try again")

    def turn_away(self) -> None:
        """End what it waits for."""
        self._crowded = True
        if self._clock is not None and not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time())
