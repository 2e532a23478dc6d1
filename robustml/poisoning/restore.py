"""The clean training set out of a poisoned one on disk, once all that can be checked is found to fit together.

Digests that lie beside the files they are of prove that no part was lost or altered by itself. They do not prove who
wrote them: whoever can rewrite every file of a folder can rewrite the digests too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robustml.data import Records
from robustml.errors import RequestError
from robustml.files import read_text
from robustml.poisoning.files import MANIFEST, ORIGINALS, TEST, TRAIN, read_set
from robustml.poisoning.manifest import entries_digest, record_digest

__all__ = ["Restored", "restored_set"]

# Entries of some 350 bytes each: millions of them.
_LARGEST_MANIFEST = 2**30
_COUNTS = ("rows", "clean_rows", "changed", "added", "deleted")
_DIGESTS = ("entries_sha256", "poisoned_sha256", "clean_sha256", "originals_sha256", "test_sha256")

Entry = Mapping[str, Any]


class Restored(NamedTuple):
    """The clean set, and in words what could not be verified of it: nothing, for a folder of this version."""

    clean: Records
    unverified: tuple[str, ...]


def restored_set(folder: Path) -> Restored:
    """The clean training set, rebuilt from a folder that `write_poisoned_set` left.

    Checked are: the manifest's entries against their number and digest in its first line; every record that it lists,
    before and after; the poisoned set, the originals and the test part as wholes; and the set that comes out.

    Raises:
        RequestError: a file is missing, was altered, or is not of the others.
    """
    for name in (TRAIN, ORIGINALS, MANIFEST):
        if not (folder / name).is_file():
            raise RequestError(
                f"{folder} holds no complete poisoned set: there is no {name}; the command that writes it finishes it"
            )
    facts, entries = _manifest(folder / MANIFEST)
    poisoned = read_set(folder / TRAIN)
    if len(poisoned) != facts["rows"]:
        raise RequestError(
            f"{folder / TRAIN} has {len(poisoned)} records, its manifest is of {facts['rows']}: one of them is of "
            "another set"
        )
    touched = torch.zeros(len(poisoned), dtype=torch.bool)
    for entry in entries:
        if (index := entry["index"]) is None:
            continue
        if record_digest(poisoned.x[index], int(poisoned.y[index])) != entry.get("sha256"):
            raise RequestError(f"{folder / TRAIN}: record {index} is not the one in the manifest: it was altered since")
        touched[index] = True
    _check(
        facts, "poisoned_sha256", poisoned, folder / TRAIN,
        "a record that the manifest does not list was altered, or records changed their order, or classes their names",
    )  # fmt: skip
    clean = _rebuilt(folder, facts, entries, poisoned, touched)
    _check(facts, "clean_sha256", clean, folder, "the set that comes out is not the one that was poisoned")
    return Restored(clean, _unverified(folder, facts))


def _rebuilt(folder: Path, facts: Entry, entries: list[Entry], poisoned: Records, touched: torch.Tensor) -> Records:
    """The clean set: the originals in their places, and around them what was left alone, in its old order."""
    lost = [entry for entry in entries if entry["original_index"] is not None]
    originals = read_set(folder / ORIGINALS) if lost else poisoned.take(torch.empty(0, dtype=torch.int64))
    same_kind = originals.x.shape[1:] == poisoned.x.shape[1:] and originals.x.dtype == poisoned.x.dtype
    if len(originals) != len(lost) or not same_kind:
        raise RequestError(
            f"{folder / ORIGINALS} has {len(originals)} records of {tuple(originals.x.shape[1:])}; the manifest lists "
            f"{len(lost)} of {tuple(poisoned.x.shape[1:])}"
        )
    for position, entry in enumerate(lost):
        if record_digest(originals.x[position], int(originals.y[position])) != entry.get("original_sha256"):
            raise RequestError(f"{folder / ORIGINALS}: record {position} is not the one in the manifest")
    if lost:
        _check(facts, "originals_sha256", originals, folder / ORIGINALS, "classes changed their names")
    rows = torch.tensor([entry["original_index"] for entry in lost], dtype=torch.int64)
    is_lost = torch.zeros(facts["clean_rows"], dtype=torch.bool)
    is_lost[rows] = True
    x = torch.empty(facts["clean_rows"], *poisoned.x.shape[1:], dtype=poisoned.x.dtype)
    y = torch.empty(facts["clean_rows"], dtype=torch.int64)
    # The rows that were left alone are in their old order: `compare` has seen to that.
    x[~is_lost], y[~is_lost] = poisoned.x[~touched], poisoned.y[~touched]
    x[rows], y[rows] = originals.x, originals.y
    return Records(x, y, poisoned.class_names)


def _manifest(path: Path) -> tuple[dict[str, Any], list[Entry]]:
    """The first line and the entries, once they agree with each other."""
    text = read_text(path, _LARGEST_MANIFEST)
    lines = text.split("\n")
    try:
        facts, *entries = [json.loads(line) for line in lines if line]
        facts = dict(facts)
        changes = [str(entry["change"]) for entry in entries]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError(f"{path} is no manifest of a poisoned set: {str(error).splitlines()[0]}") from error
    for name in _COUNTS:
        if not _is_count(facts.get(name)):
            raise RequestError(f"{path} is no manifest of a poisoned set: its first line has no number of {name}")
    if 0 < sum(name in facts for name in ("entries", *_DIGESTS)) <= len(_DIGESTS):
        lacking = next(name for name in ("entries", *_DIGESTS) if name not in facts)
        raise RequestError(f"{path} was altered: its first line lacks {lacking}")
    promised = {name: facts[name] for name in ("changed", "added", "deleted")}
    found = {name: changes.count(name) for name in promised}
    if found != promised or len(entries) != facts.get("entries", sum(promised.values())):
        raise RequestError(
            f"{path} was altered or cut short: its first line is of {sum(promised.values()):,} entries "
            f"({_counts(promised)}), but {len(entries):,} follow ({_counts(found)})"
        )
    if "entries_sha256" in facts and facts["entries_sha256"] != entries_digest(
        line.encode() + b"\n" for line in lines[1:] if line
    ):
        raise RequestError(f"{path} was altered: its entries are not those that its first line is of")
    if facts["clean_rows"] != facts["rows"] - facts["added"] + facts["deleted"]:
        raise RequestError(
            f"{path} was altered: {facts['clean_rows']} clean rows do not become {facts['rows']} that way"
        )
    _check_places(path, facts, entries)
    return facts, entries


def _check_places(path: Path, facts: Entry, entries: list[Entry]) -> None:
    """Every entry names a record that can be there, and none twice."""
    for key, total, absent in (("index", facts["rows"], "deleted"), ("original_index", facts["clean_rows"], "added")):
        named: set[int] = set()
        for number, entry in enumerate(entries):
            place = entry.get(key, -1)
            if entry["change"] == absent and place is None:
                continue
            if not _is_count(place) or place >= total or place in named or entry["change"] == absent:
                raise RequestError(f"{path} was altered: entry {number} has the {key} {place!r}, which cannot be")
            named.add(place)


def _check(facts: Entry, key: str, found: Records, where: Path, otherwise: str) -> None:
    if key in facts and facts[key] != found.fingerprint():
        raise RequestError(f"{where} does not fit its manifest: {otherwise}")


def _unverified(folder: Path, facts: Entry) -> tuple[str, ...]:
    """What could not be verified, after the test part was, where it can be."""
    if "poisoned_sha256" not in facts:
        return (
            "the manifest is of an older version, without digests of the whole",
            "records that it does not list may have been altered",
            "entries may have been exchanged",
        )
    if not (folder / TEST).is_file():
        return (f"there is no {TEST}",)
    _check(facts, "test_sha256", read_set(folder / TEST), folder / TEST, "it was altered")
    return ()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in of.items())
