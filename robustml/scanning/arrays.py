"""Arrays beside pickles: the header of an .npy file, and what joblib writes behind the wrapper of an array."""

from __future__ import annotations

import ast
import math
import re
from typing import Any

from robustml.scanning.allowed import Name
from robustml.scanning.stack import Made
from robustml.scanning.windows import Window

_HEADER = 2**16
_KIND = re.compile(r"[<>|=]?(?:([biufcSUVmM])(\d{1,9})(\[\w+\])?|(O)8?)")


class NoArray(Exception):
    """What an array cannot be, in words."""


def item_size(described: Any) -> int | None:
    """The bytes of an entry of an array, out of numpy's description of its kind; None where it holds objects.

    Raises:
        NoArray: it is no such description.
    """
    if isinstance(described, str) and (match := _KIND.fullmatch(described)):
        return None if match[4] else int(match[2]) * (4 if match[1] == "U" else 1)
    if isinstance(described, tuple) and len(described) == 2:  # (kind, shape)
        inner = item_size(described[0])
        return None if inner is None else inner * _product(described[1])
    if isinstance(described, list) and all(isinstance(field, tuple) and len(field) in (2, 3) for field in described):
        sizes = [(item_size(field[1]), _product(field[2] if len(field) == 3 else ())) for field in described]
        return None if any(size is None for size, _ in sizes) else sum((size or 0) * number for size, number in sizes)
    raise NoArray("its kind is none of numpy's")


def _product(shape: Any) -> int:
    shape = (shape,) if isinstance(shape, int) else shape
    if not isinstance(shape, tuple) or not all(type(length) is int and 0 <= length < 2**63 for length in shape):
        raise NoArray("its shape is none")
    return math.prod(shape)


def npy_objects(window: Window) -> bool:
    """Whether an .npy file holds objects, which are a pickle; the window then stands where that begins.

    Raises:
        NoArray: the header is damaged, or claims another size than the file has.
    """
    window.seek(6)
    major = window.read(2)[:1]
    width = 2 if major == b"\x01" else 4
    length = int.from_bytes(window.read(width), "little")
    if major not in (b"\x01", b"\x02", b"\x03") or length > _HEADER:
        raise NoArray("its header is none of numpy's")
    try:
        header = ast.literal_eval(window.read(length).decode("utf-8" if major == b"\x03" else "latin-1").strip())
        described, shape = header["descr"], header["shape"]
    except Exception as error:  # of hostile text, the parser of Python raises nearly anything
        raise NoArray("its header cannot be read") from error
    size = item_size(described)
    if size is None:
        return True
    claimed, held = size * _product(shape), window.size - window.tell()
    if claimed != held:
        raise NoArray(f"it claims {claimed:,} bytes and holds {held:,}")
    return False


def joblib_size(window: Window, state: dict[str, Any]) -> int | None:
    """The bytes of the array behind a wrapper of joblib's, with what aligns it; None where it is a pickle.

    Raises:
        NoArray: it cannot be told.
    """
    dtype = state.get("dtype")
    if not isinstance(dtype, Made) or dtype.name != Name("numpy", "dtype") or not isinstance(dtype.arguments, tuple):
        raise NoArray("it is no plain array")
    described = dtype.arguments[0] if dtype.arguments else None
    size = item_size(described)
    if size is None:
        return None
    # of several fields, which may be objects; or of another size than its name says
    built: Any = dtype.state if isinstance(dtype.state, tuple) and len(dtype.state) >= 6 else (0,) * 6
    if not isinstance(described, str) or "V" in described or built[2:5] != (None,) * 3 or built[5] not in (-1, size):
        raise NoArray("it is no plain array")
    padding = 0
    if state.get("numpy_array_alignment_bytes") is not None:
        padding = 1 + int.from_bytes(window.at(window.tell(), 1), "little")
    return padding + size * _product(state.get("shape"))
