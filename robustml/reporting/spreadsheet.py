"""CSV that a spreadsheet may open: no cell of it is taken for a formula; and how a rate stands in columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from robustml.results import Rate

if TYPE_CHECKING:
    import pandas as pd

# The last four are the same signs in full width, which some programs read alike.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def csv_text(frame: pd.DataFrame) -> str:
    """The frame as CSV, without its index.

    Names that somebody else chose may be formulas; a text that begins like one gets an apostrophe before it, which
    spreadsheets take for "this is text". Numbers stay as they are.
    """
    return frame.map(_text).rename(columns=_text).to_csv(index=False, lineterminator="\n")


def _text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip().startswith(_FORMULA) else cell


def rate_columns(rates: Mapping[str, Rate | None], *, counted: bool = False) -> dict[str, float | None]:
    """The values and the bounds of rates as columns of a row: `<name>`, `<name>_low`, `<name>_high`; and `<name>_n`."""
    columns: dict[str, float | None] = {}
    for name, rate in rates.items():
        low, high = (None, None) if rate is None else rate.ci95
        columns |= {name: None if rate is None else rate.value, f"{name}_low": low, f"{name}_high": high}
        if counted:
            columns[f"{name}_n"] = 0 if rate is None else rate.n
    return columns
