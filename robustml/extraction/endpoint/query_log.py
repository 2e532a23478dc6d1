"""The log of an endpoint: a JSON object a line, and no request fails because the disk is full."""

from __future__ import annotations

import json
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class QueryLog:
    """Appends lines to a file. A line that cannot be written is counted, and said once on stderr.

    A log that is lost in silence would be worse than none: `lost` is told to whoever asks for the endpoint's health,
    and the first line that can be written again is preceded by one that says how many are missing.

    Args:
        path: the file; it is opened for every line, so that it may be rotated or come back.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.lost = 0
        self._missing = 0
        self._torn = False
        self._lock = threading.Lock()

    def note(self, **content: Any) -> None:
        """Append a line of `content`, with the time; never raises for what a disk does."""
        line = self._line(content)
        with self._lock:
            try:
                self._append((self._line({"lost": self._missing}) if self._missing else "") + line)
            except OSError as error:
                self.lost += 1
                self._missing += 1
                if self._missing == 1:
                    warn(f"the query log {self.path} cannot be written ({error.strerror}); answers go on without it")
                return
            if self._missing:
                warn(f"the query log {self.path} can be written again; {self._missing:,} lines are lost")
            self._missing = 0

    @staticmethod
    def _line(content: dict[str, Any]) -> str:
        return json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | content) + "\n"

    def _append(self, text: str) -> None:
        # What a full disk took of a line is not taken back, but the next one begins on a line of its own.
        content = (("\n" if self._torn else "") + text).encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            written = os.write(file, content)
        finally:
            os.close(file)
        if written < len(content):
            self._torn = self._torn or written > 0
            raise OSError(0, "only a part of a line fitted", str(self.path))
        self._torn = False


def warn(text: str) -> None:
    """One line for whoever runs the server; a terminal that is gone must not end it either."""
    try:
        print("warning: " + " ".join(text.split())[:500], file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return
