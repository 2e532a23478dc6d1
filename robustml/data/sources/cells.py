"""What the cells of one column of a table hold: numbers, words for missing ones, or something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustml.data.sources.table import Table, number_in

# In lower case. In a column of numbers these say that one is missing; in any other they are words.
_MISSING = {
    "",
    "?",
    "na",
    "n/a",
    "#n/a",
    "<na>",
    "nan",
    "-nan",
    "null",
    "#null!",
    "none",
    "nil",
    "-",
    "--",
    ".",
    "missing",
}
_TRUTH = {"true": 1.0, "false": 0.0}
_SIGNS = str.maketrans("", "", "$€£¥%,.' \u00a0\u202f")


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
