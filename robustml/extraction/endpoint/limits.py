"""How much a client of an endpoint may send at once, and how long it may take over it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from robustml.errors import RequestError


@dataclass(frozen=True)
class Limits:
    """How much one request, and all of them together, may hold and take.

    Args:
        inputs: how many inputs in one request.
        megabytes: how long its body, in MiB; eight times as much may lie in memory for all requests together.
        connections: how many are open at once. Of more, the one that has kept the server waiting for longest is closed.
        header_seconds: from a connection, or the end of the last answer, until the head of a request has arrived.
        body_seconds: from there until its body has arrived.
        wait_seconds: from there until it is its turn.

    Raises:
        RequestError: a limit that lets nothing through, or is no number.
    """

    inputs: int = 256
    megabytes: float = 8.0
    connections: int = 512
    header_seconds: float = 5.0
    body_seconds: float = 20.0
    wait_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value, whole = getattr(self, name), name in ("inputs", "connections")
            if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
                kind = "a whole number of at least 1" if whole else "a number above 0"
                raise RequestError(f"limits.{name} must be {kind}, got {value!r}")

    @property
    def body_bytes(self) -> int:
        """The longest body."""
        return max(1, math.floor(self.megabytes * 2**20))

    @property
    def held_bytes(self) -> int:
        """The most that all bodies that are being received or wait may take together."""
        return 8 * self.body_bytes
