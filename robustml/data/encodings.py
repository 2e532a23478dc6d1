"""Which encoding the bytes of a text file are in: told by their mark, by zeros between letters, or UTF-8."""

from __future__ import annotations

import codecs

from robustml.errors import RequestError

# the longest first: UTF-32's mark begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 4096


def known_encoding(name: str) -> str:
    """The name of an encoding, refused where Python does not know it."""
    try:
        b"\0\0\0\0".decode(name)
    except (LookupError, TypeError, ValueError) as error:  # of an encoding too that is none of texts
        raise RequestError(
            f"encoding={name!r} is unknown; known are utf-8, utf-16, latin-1, cp1252 and all that Python knows"
        ) from error
    return name


def encoding_of(content: bytes) -> str | None:
    """The encoding that a text's bytes show, or None where they are neither marked nor UTF-8.

    Letters of most languages in UTF-16 without a mark have every other byte at zero, which no text in UTF-8 has.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    first = content[:_LOOKED_AT]
    even, odd = first[::2].count(0), first[1::2].count(0)
    if max(even, odd) > len(first) / 8 and min(even, odd) * 8 < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    return "utf-8"
