"""The connections of an endpoint: so many and no more, and none that keeps the server waiting for long.

uvicorn closes a connection that is idle between requests. It waits for ever for the rest of a head or of a body, and
for whoever does not read an answer, and it counts connections only to refuse the honest ones that come last.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from robustml.extraction.endpoint.limits import Limits

# A chunk may hold a single byte: what arrives is looked at in pieces, so that no client keeps the loop for long.
_PIECE = 4096
# Chunked bodies of which less than this share is content are cut off, once so much has arrived: each chunk costs as
# much as a kilobyte of any other body.
_SHARE, _PATIENCE = 0.9, 16 * 2**10

_GRACE = 1.0
# How many pieces may come of requests after the one that is being answered: thousands of requests would be worked off
# for a client that has gone long since.
_AHEAD = 4

Phase = Literal["head", "body", "answer"]


class Board:
    """All open connections.

    Args:
        limits: how many, and how long they may keep the server waiting.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.dropped = 0
        """How many were closed because they were too slow or too many, or spoke no HTTP."""
        self._open: dict[Watched, None] = {}

    def admit(self, new: Watched) -> bool:
        """Make room for a connection; False where every other one waits for the server, and not the server for it."""
        if len(self._open) >= self.limits.connections:
            slowest = min((old for old in self._open if old.phase != "answer"), key=lambda old: old.since, default=None)
            if slowest is None:
                self.dropped += 1
                return False
            self.drop(slowest)
        self._open[new] = None
        return True

    def drop(self, connection: Watched) -> None:
        """Close a connection at once."""
        self.dropped += not connection.transport.is_closing()
        self.forget(connection)
        connection.transport.abort()

    def forget(self, connection: Watched) -> None:
        """A connection that is closed."""
        self._open.pop(connection, None)


class Watched(H11Protocol):
    """uvicorn's connection with a clock.

    Args:
        board: where it is listed.
        uvicorns: what uvicorn gives.
    """

    def __init__(self, *, board: Board, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.phase: Phase = "head"
        self.since = time.monotonic()
        self._board = board
        self._clock: asyncio.TimerHandle | None = None
        self._ahead = 0
        self._received = self._content = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it on, or close it."""
        super().connection_made(transport)
        if not self._board.admit(self):
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            transport.close()
        self._enter("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        self._board.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand on what arrives, a piece at a time."""
        for place in range(0, len(data), _PIECE):
            if self.transport.is_closing():
                return
            if self.phase == "answer":
                self._ahead += 1
                if self._ahead > _AHEAD:
                    self.cycle.keep_alive = False
                    return
            piece, cycle = data[place : place + _PIECE], self.cycle
            before = 0 if cycle is None else len(cycle.body)
            super().data_received(piece)
            if self.cycle is not None:
                self._content += len(self.cycle.body) - (before if self.cycle is cycle else 0)
            self._received += len(piece)
            self._look()

    def shutdown(self) -> None:
        """Finish what is being answered; nobody else is waited for."""
        if self.phase == "answer":
            super().shutdown()
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Count what is no HTTP, and close the connection even if the answer is not read."""
        self._board.dropped += 1
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # an answer is under way already
            self.transport.abort()
        self._enter("head")

    def on_response_complete(self) -> None:
        """Wait for the next request, for the rest of this one, or for the answer to be read."""
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Find out who waits for whom."""
        if self.conn.their_state is h11.SEND_BODY:
            self._enter("body")
            if self._received > _PATIENCE and self._content < _SHARE * self._received and self._chunked:
                self._board.drop(self)
            return
        self._received = self._content = 0
        if self.cycle is not None and not self.cycle.response_complete:
            self._enter("answer")
        else:
            self._enter("body" if self.transport.get_write_buffer_size() else "head")

    @property
    def _chunked(self) -> bool:
        return any(name == b"transfer-encoding" for name, _ in self.headers)

    def _enter(self, phase: Phase) -> None:
        """Start the clock of a phase, unless it runs already."""
        if phase == self.phase and self._clock is not None:
            return
        self._stop()
        self.phase, self.since = phase, time.monotonic()
        if phase != "answer":
            limits = self._board.limits
            # the endpoint itself answers a body that is late, if it can
            seconds = limits.header_seconds if phase == "head" else limits.body_seconds + _GRACE
            self._clock = self.loop.call_later(seconds, self._board.drop, self)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
