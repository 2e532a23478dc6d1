"""Which rows a poison touches: an exact number of them, drawn from a seed, whatever the batches or workers."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor

from robustml.data import Arrays
from robustml.errors import RequestError

__all__ = ["check_class", "check_rate", "choose", "class_label", "seed_for", "seeded"]


def check_rate(rate: float, name: str = "poison.rate") -> None:
    """Refuse what is no share of a set.

    Raises:
        RequestError: a rate outside [0, 1], or none at all.
    """
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1:
        raise RequestError(f"{name} is the share of the training set that is changed, in [0, 1]; got {rate!r}")


def seeded(seed: int, purpose: str) -> Generator:
    """A generator on the CPU for one purpose of one seed: draws for one thing never shift those for another."""
    return Generator().manual_seed(seed_for(seed, purpose))


def seed_for(seed: int, purpose: str) -> int:
    """A seed for one purpose of one seed."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


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
        raise RequestError(f"{purpose}: {count} {what} are to be changed, but there are only {len(candidates)}")
    order = torch.randperm(len(candidates), generator=seeded(seed, purpose))
    return candidates[order[:count]].sort().values


def class_label(data: Arrays, name: int | str, what: str) -> int:
    """The label of a class given by number or by name.

    Raises:
        RequestError: the set has no such class.
    """
    if isinstance(name, str) and name in data.class_names:
        return data.class_names.index(name)
    if isinstance(name, int) and not isinstance(name, bool):
        check_class(data, name, what)
        return name
    raise RequestError(f"{what}: there is no class {name!r}; the classes are {', '.join(data.class_names)}")


def check_class(data: Arrays, label: int, what: str) -> None:
    """Refuse a label that the set does not have.

    Raises:
        RequestError: it is out of range.
    """
    if not 0 <= label < len(data.class_names):
        raise RequestError(f"{what}: there is no class {label}; the labels go from 0 to {len(data.class_names) - 1}")
