"""A line of an audit log: written in one way only, so that one that means the same in other letters is refused."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustml.integrity.strict_json import strict_json
from robustml.results.reading import problem_of

LONGEST = 2**16  # of a line, with its end
NOTHING = "0" * 64
_HEX = r"^[0-9a-f]{64}$"


class Entry(BaseModel):
    """A line of a log.

    Attributes:
        log: of which log, 32 random hexadecimal digits.
        sequence: its number, from 1 on.
        time: when it was written, in UTC, by the clock of whoever wrote it.
        what: what was done: manifested, signed, verified, trained, ...
        subjects: to what: for each name a digest, ``sha256:<hex>``.
        facts: what else is to be known.
        before: SHA-256 of the line before, in hex; zeros in the first.
        by: the fingerprint of the key that signed.
        signature: ECDSA over all of this but itself, in DER and Base64.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    log: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    sequence: Annotated[int, Field(ge=1)]
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
    what: Annotated[str, Field(pattern=r"^[a-z][a-z -]{0,39}$")]
    subjects: dict[str, str]
    facts: dict[str, str | int | bool]
    before: Annotated[str, Field(pattern=_HEX)]
    by: str
    signature: str = ""

    @property
    def line(self) -> bytes:
        """The one way to write it, without the end of the line."""
        return json.dumps(self.model_dump(), separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """What the next entry names as the one before it, in hex."""
        return hashlib.sha256(self.line).hexdigest()

    @property
    def signed(self) -> bytes:
        """The signature, in DER.

        Raises:
            ValueError: it is not Base64.
        """
        try:
            return base64.b64decode(self.signature, validate=True)
        except binascii.Error as error:
            raise ValueError("its signature is not Base64") from error

    @property
    def message(self) -> bytes:
        """What is signed: another kind of message than that of a bundle, so that neither can stand for the other."""
        unsigned = self.model_copy(update={"signature": ""}).line
        kind = b"application/vnd.robustml.audit+json"
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(unsigned), unsigned)


def read_entry(line: bytes) -> Entry:
    """The entry that a line holds, with its end; at most `LONGEST` bytes.

    Raises:
        ValueError: what is wrong with it.
    """
    if not line.endswith(b"\n"):
        long = len(line) == LONGEST
        raise ValueError("it is too long to be ours" if long else "it is torn: who wrote it was stopped in the middle")
    try:
        entry = Entry.model_validate(strict_json(line))
    except ValidationError as error:
        raise ValueError(f"it is no entry: {problem_of(error)}") from error
    if entry.line + b"\n" != line:
        raise ValueError("it is written otherwise than we write it")
    return entry
