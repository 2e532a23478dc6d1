"""What a scan finds, and the scan that is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from robustml.errors import printable
from robustml.scanning.pickles import Followed
from robustml.scanning.windows import Budget, Window

_MOST = 1000
SCHEMA = "robustml.scan/1"


@dataclass(frozen=True)
class Finding:
    """Why a file is refused.

    Attributes:
        where: the file; what lies in an archive stands behind an exclamation mark.
        what: the reason, such as ``would call os.system('ls')``.
        name: what it would import, where it is that.
    """

    where: str
    what: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Scanned:
    """What was found in a file or a folder.

    Attributes:
        findings: why it is refused; none where every file is of a known kind and calls nothing.
        files: every file that was looked at, with its kind; what lies in archives too.
    """

    findings: tuple[Finding, ...]
    files: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values: ``refused``, ``findings`` (``where``, ``what``, ``name``), ``files``."""
        findings = [asdict(finding) for finding in self.findings]
        return {"schema": SCHEMA, "refused": bool(findings), "findings": findings, "files": self.files}

    @property
    def named(self) -> list[str]:
        """The names that would be imported, each once."""
        return list(dict.fromkeys(finding.name for finding in self.findings if finding.name))


Inner = Callable[["Scan", Window, str, int], str]


@dataclass
class Scan:
    """A scan under way: what may be spent, and what was found so far."""

    budget: Budget
    inner: Inner
    findings: dict[Finding, None] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def refuse(self, where: str, what: str, name: str = "") -> None:
        """Note a finding, in letters that a terminal shows."""
        if len(self.findings) < _MOST:
            self.findings[Finding(_short(where), _short(what), _short(name))] = None

    def take(self, where: str, found: Followed) -> None:
        """Note what following a pickle found."""
        for what, name in found.lines:
            self.refuse(where, what, name)

    def look(self, window: Window, where: str, depth: int) -> str:
        """Look at a file inside of another; returns its kind."""
        return self.inner(self, window, where, depth)


def _short(text: str) -> str:
    """Text as a terminal shows it, without the middle of what is long."""
    text = printable(text)
    return text if len(text) <= 500 else f"{text[:300]} ... {text[-150:]}"
