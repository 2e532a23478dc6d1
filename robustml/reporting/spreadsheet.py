"""CSV that a spreadsheet may open: no cell of it is taken for a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["csv_text"]

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
