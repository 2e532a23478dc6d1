"""What the cells of a table hold: numbers, words for missing ones, or something else; and what fills the gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from robustml.data.sources.table import Table, number_in
from robustml.errors import RequestError, nearest

Missing = Literal["refuse", "drop_rows", "mean"]

# In lower case. In a column of numbers these say that one is missing; in any other they are words.
_SAY_MISSING = "? na n/a #n/a <na> nan -nan null #null! none nil - -- . missing"
_MISSING = {"", *_SAY_MISSING.split()}
_TRUTH = {"true": 1.0, "false": 0.0}
_SIGNS = str.maketrans("", "", "$€£¥%,.' \u00a0\u202f")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How to read the columns of a table.

    Args:
        features: the columns to use; None takes every column of numbers that is no index.
        ignore: columns to leave out.
        missing: what to do where a number is missing: ``"refuse"``; ``"drop_rows"``, which leaves such rows out of both
            parts; or ``"mean"``, which puts the mean of the training file there.
        missing_values: cells that say so, beside empty ones, ?, -, NA, null and the like.

    Raises:
        RequestError: an unknown way to treat missing numbers.
    """

    features: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    missing: Missing = "refuse"
    missing_values: Sequence[object] = ()

    def __post_init__(self) -> None:
        """Refuse unknown options before a file is read."""
        if self.missing not in get_args(Missing):
            raise RequestError(
                f"data.source.missing={self.missing!r} is unknown; {nearest(str(self.missing), get_args(Missing))}"
            )
        for name in ("features", "ignore", "missing_values"):
            if isinstance(getattr(self, name), str):
                raise RequestError(f"data.source.{name} is a list, such as [a, b]; got {getattr(self, name)!r}")


class Cells(NamedTuple):
    """The cells of a column.

    Args:
        values: (N,), NaN where there is no number.
        missing: rows (K,) of the cells that are empty, or say that their number is missing.
        odd: rows (L,) of the cells that hold anything else.
    """

    values: NDArray[np.float64]
    missing: NDArray[np.int64]
    odd: NDArray[np.int64]

    @property
    def numbers(self) -> int:
        """How many cells hold a number."""
        return len(self.values) - len(self.missing) - len(self.odd)


def cells_of(table: Table, place: int, missing_values: Sequence[object]) -> Cells:
    """Read the cells of a column.

    Args:
        table: where from.
        place: of the column.
        missing_values: cells that say so of a missing number, beside the usual words: "unknown", or the number -999.
    """
    column = table.frame[place]
    declared = {str(value).strip() for value in missing_values}
    marks = [number for value in declared if (number := number_in(value, table.decimal)) is not None]
    if column.dtype == bool or column.dtype.kind in "iuf":
        values = column.to_numpy(np.float64)
        lost = np.isin(values, marks)
        return Cells(np.where(lost, np.nan, values), np.flatnonzero(lost), np.empty(0, np.int64))
    import pandas as pd  # a second that start-up can do without: tables alone need it

    codes, tokens = pd.factorize(np.array(table.strings(place), dtype=object))
    numbers = [number_in(token, table.decimal) for token in tokens]
    said = [token in declared or token.lower() in _MISSING for token in tokens]
    lost = np.array([word or number in marks for word, number in zip(said, numbers, strict=True)], dtype=bool)
    if all(absent or token.lower() in _TRUTH for token, absent in zip(tokens, lost, strict=True)):
        numbers = [_TRUTH.get(token.lower()) for token in tokens]
    parsed = np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)
    odd = np.isnan(parsed) & ~lost
    parsed[lost] = np.nan
    return Cells(parsed[codes], np.flatnonzero(lost[codes]), np.flatnonzero(odd[codes]))


def look_like_numbers(tokens: Sequence[str]) -> bool:
    """Whether most of the strings are numbers once signs of money, per cent, thousands and decimals are taken off."""
    return 2 * sum(token.translate(_SIGNS).lstrip("+-").isdecimal() for token in tokens) > len(tokens)


def filled(
    table: Table, cells: dict[str, Cells], choice: Choice, means: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The features as one array, with what is missing treated as asked.

    Args:
        table: where the cells come from.
        cells: by the name of their column.
        choice: of what becomes of missing numbers.
        means: (D,), what stands in for missing numbers; None takes the means of the cells themselves.

    Returns:
        The numbers (K, D), and which rows (K,) of the table they are.

    Raises:
        RequestError: a number is missing and `choice` says to refuse; one is not finite; or no row is left.
    """
    values = np.stack([each.values for each in cells.values()], axis=1)
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, column = infinite[0]
        raise RequestError(f"{table.where(row)}: expected a finite number in {list(cells)[column]!r}; mend it")
    lost = np.isnan(values)
    rows = np.arange(len(values))
    if not lost.any():
        return values, rows
    if choice.missing == "refuse":
        name = list(cells)[int(lost.any(axis=0).argmax())]
        first = cells[name].missing
        token = table.strings(table.place(name))[first[0]]
        raise RequestError(
            f"{table.where(first[0])}: expected a number in {name!r}, got {token!r} (missing in {len(first)} of "
            f"{len(table)} rows); fill it in, or set data.source.missing to drop_rows, which leaves such rows out, or "
            f"to mean, that of the training file, or data.source.ignore=[{name}]"
        )
    if choice.missing == "mean":
        instead = np.nanmean(values, axis=0) if means is None else means
        return np.where(lost, instead, values), rows
    rows = np.flatnonzero(~lost.any(axis=1))
    if not len(rows):
        raise RequestError(
            f"{table.path}: every row lacks a number, so that data.source.missing=drop_rows leaves none; leave columns "
            "out by data.source.ignore=[...]"
        )
    return values[rows], rows
