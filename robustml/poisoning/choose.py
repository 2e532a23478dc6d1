"""Which rows a poison touches: an exact number of them, drawn from a seed, whatever the batches or workers."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor

from robustml.data import Records
from robustml.data.labels import class_index
from robustml.errors import RequestError


def seeded(seed: int, purpose: str) -> Generator:
    """A generator on the CPU for one purpose of one seed: draws for one thing never shift those for another."""
    return Generator().manual_seed(seed_for(seed, purpose))


def seed_for(seed: int, purpose: str) -> int:
    """A seed for one purpose of one seed."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def rows_for(rate: float, records: Records, name: str = "poison.rate") -> int:
    """How many rows a rate asks for: ``round(rate * N)``, and never none of them where it asks for some.

    Raises:
        RequestError: it asks for some, but rounds to none.
    """
    count = round(rate * len(records))
    if rate > 0 and not count:
        raise RequestError(
            f"{name}={rate:g} of {len(records):,} rows rounds to no row, so nothing would be changed: raise it "
            f"to {1 / max(len(records), 1):.2g} at least, or set 0"
        )
    return count


def choose(candidates: Tensor, count: int, seed: int, purpose: str, what: str = "rows") -> Tensor:
    """Draw rows without replacement.

    Args:
        candidates: (K,) int64, the rows to draw from.
        count: how many.
        seed: of the draw.
        purpose: apart from other draws of the same seed; the poison's name.
        what: what the candidates are, for the message.

    Returns:
        (count,) int64, ascending.

    Raises:
        RequestError: there are too few candidates.
    """
    if count > len(candidates):
        raise RequestError(
            f"{purpose}: {count} {what} are to be changed, but there are only {len(candidates)}: lower the rate"
        )
    order = torch.randperm(len(candidates), generator=seeded(seed, purpose))
    return candidates[order[:count]].sort().values


def class_label(records: Records, name: object, what: str) -> int:
    """The label of a class given by name, or by number where none is named so.

    Raises:
        RequestError: the set has no such class.
    """
    try:
        return class_index(name, records.class_names)
    except RequestError as error:
        raise RequestError(f"{what}: {error}") from error


def class_to_aim_at(records: Records, name: object, what: str = "poison.target") -> int:
    """The label of a class that rows are to be given, or that a mark is to mean: one that has rows.

    Raises:
        RequestError: the set has no such class, or no row of it.
    """
    label = class_label(records, name, what)
    if not bool((records.y == label).any()):
        raise RequestError(
            f"{what}: the class {records.class_names[label]!r} has no row in the training part, so nothing can be made "
            "to look like it; choose one that has some"
        )
    return label


def classes_with_rows(records: Records) -> Tensor:
    """The labels (K,) that occur, ascending; a set may name classes that it has no row of."""
    return records.y.bincount().nonzero().squeeze(1)


def rows_of(records: Records, label: int) -> Tensor:
    """The rows (K,) of a class, ascending."""
    return (records.y == label).nonzero().squeeze(1)


def rows_of_others(records: Records, label: int) -> Tensor:
    """The rows (K,) of all other classes, ascending."""
    return (records.y != label).nonzero().squeeze(1)
