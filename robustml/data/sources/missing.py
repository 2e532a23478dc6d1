"""How the columns of a table are to be read, and what becomes of rows that lack a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from robustml.data.sources.cells import Cells
from robustml.data.sources.table import Table
from robustml.errors import RequestError, nearest

Missing = Literal["refuse", "drop_rows", "mean"]


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
