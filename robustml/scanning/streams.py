"""Pickles in files: several behind each other, those of torch before its zips (version 1.6), and those of joblib."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustml.scanning.allowed import SIZES, is_storage
from robustml.scanning.arrays import NoArray, joblib_size
from robustml.scanning.findings import Scan
from robustml.scanning.pickles import Followed, follow
from robustml.scanning.windows import Window

_MAGIC, _PICKLES = 0x1950A86A20F9469CFC6C, 1000


def storages(seen: dict[str, int]) -> Callable[[Any], str]:
    """What says whether a persistent id is that of a storage, and keeps the bytes of each in `seen`."""

    def check(value: Any) -> str:
        if not (isinstance(value, tuple) and len(value) in (5, 6) and value[0] == "storage" and is_storage(value[1])):
            return "it is none of a storage of torch"
        kind, key, number = value[1], value[2], value[4]
        if not isinstance(key, str) or not isinstance(number, int):
            return "its storage has no name and size"
        seen[key] = SIZES[kind.name] * number
        return ""

    return check


def scan_pickles(scan: Scan, window: Window, where: str) -> str:
    """Follow all pickles of a file; returns its kind."""
    window.seek(0)
    seen: dict[str, int] = {}
    arrays: list[Followed] = []
    found = follow(window, scan.budget, None, _passing(scan, arrays))
    if found.result == _MAGIC and not found.damaged:
        return _legacy(scan, window, where, seen)
    number = 1
    while not found.damaged and window.tell() < window.size and number < _PICKLES:
        scan.take(where, found)
        behind = window.tell()
        found, number = follow(window, scan.budget, None, _passing(scan, arrays)), number + 1
        if found.damaged and not found.certain:
            scan.refuse(where, f"holds {window.size - behind:,} bytes behind its end (byte {behind:,})")
            break
    else:
        if found.damaged:
            scan.refuse(where, f"cannot be followed: {found.damaged}")
        elif window.tell() < window.size:
            scan.refuse(where, f"holds more than {_PICKLES:,} pickles")
    scan.take(where, found)
    for inner in arrays:
        scan.take(where, inner)
    if arrays:  # a reader other than joblib takes an array for what comes next in the pickle
        window.seek(0)
        found = follow(window, scan.budget)
        if found.certain:
            scan.take(where, found)
    return "joblib" if arrays else "pickle"


def _passing(scan: Scan, arrays: list[Followed]) -> Callable[[Window, dict[str, Any]], None]:
    """What passes over the array behind a wrapper of joblib's, and follows it where it is a pickle."""

    def passing(window: Window, state: dict[str, Any]) -> None:
        try:
            size = joblib_size(window, state)
        except NoArray as error:
            raise ValueError(f"the array behind a wrapper of joblib cannot be passed over: {error}") from error
        if size is None:
            inner = follow(window, scan.budget)
            arrays.append(inner)
            if inner.damaged:
                raise ValueError(inner.damaged)
            return
        arrays.append(Followed())
        if size > window.size - window.tell():
            raise ValueError("an array of it is cut off")
        window.seek(window.tell() + size)

    return passing


def _legacy(scan: Scan, window: Window, where: str, seen: dict[str, int]) -> str:
    """The rest of a file of torch before 1.6: version, machine, what was saved, the storages' names, the storages."""
    for check in (None, None, storages(seen), None):
        found = follow(window, scan.budget, check)
        scan.take(where, found)
        if found.damaged:
            scan.refuse(where, f"cannot be followed: {found.damaged}")
            return "torch, before 1.6"
    expected, held = sum(8 + size for size in seen.values()), window.size - window.tell()
    if expected != held:
        scan.refuse(where, f"names storages of {expected:,} bytes and holds {held:,} behind its pickles")
    return "torch, before 1.6"
