"""The header of a safetensors file, held against what lies behind it."""

from __future__ import annotations

import json
import math
from typing import Any

from robustml.scanning.findings import Scan
from robustml.scanning.windows import Window

_LARGEST = 100_000_000  # as in the reference implementation
# bits, since some have half a byte
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


def is_safetensors(window: Window) -> bool:
    """Whether it begins as one: the length of a header, and its first brace."""
    head = window.at(0, 9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def scan_safetensors(scan: Scan, window: Window, where: str) -> str:
    """Check that the header is one, and that its tensors fill what lies behind it, without gaps and overlaps."""
    if wrong := _wrong(window):
        scan.refuse(where, f"its header is damaged or lies: {wrong}")
    return "safetensors"


def _wrong(window: Window) -> str:
    length = int.from_bytes(window.at(0, 8), "little")
    if length > min(_LARGEST, window.size - 8):
        return f"it claims {length:,} bytes"
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice.append(next(name for name in names if names.count(name) > 1))
        return found

    part, text = window.part(8, length), bytearray()
    while content := part.read(2**20):
        text += content
    try:
        header = json.loads(text.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return "it is no JSON"
    if twice:
        return f"{twice[0]} stands there twice"
    if not isinstance(header, dict):
        return "it is no table of tensors"
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        return "its notes are no texts"
    spans = []
    for name, tensor in header.items():
        try:
            (start, end), shape, bits = tensor["data_offsets"], tensor["shape"], _BITS[tensor["dtype"]]
            whole = all(type(number) is int and 0 <= number < 2**63 for number in (start, end, *shape))
        except (KeyError, TypeError, ValueError):
            return f"{name} has no kind, shape and place"
        if not whole or 8 * (end - start) != math.prod(shape) * bits:
            return f"{name} has not the size of its shape"
        spans.append((start, end, name))
    place = 0
    for start, end, name in sorted(spans):
        if start != place:
            return f"{name} begins at {start:,}, and what stands before it ends at {place:,}"
        place = end
    if place != (held := window.size - 8 - length):
        return f"its tensors end at {place:,}, and {held:,} bytes are there"
    return ""
