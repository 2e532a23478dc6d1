"""Which columns of a table are features: none is left out without a word, and none that numbers the rows is taken."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from robustml.data.sources.cells import Cells, Choice, cells_of, look_like_numbers
from robustml.data.sources.table import Table
from robustml.data.understood import listed
from robustml.errors import RequestError

_UNNAMED = re.compile(r"Unnamed: \d+(_level_\d+|\.\d+)?")
_IDENTIFIER = re.compile(
    r"(?i:(?:^|[\W_])(?:id|idx|index|row|rownames?|nr|no|num|number|serial|key)\d*(?:$|[\W_]))|[a-z0-9](?:I[dD]|Index|No|Nr)$|^#$"
)
_COUNTED = 10  # rows from which on numbers that rise by one each are no chance


def choose_columns(table: Table, choice: Choice, taken: Collection[int]) -> tuple[dict[str, Cells], dict[str, str]]:
    """The features of a training file, and why the other columns are none.

    Args:
        table: the training file.
        choice: what was asked for.
        taken: places of columns that are something else, such as the labels.

    Returns:
        The cells of each feature by name, in the order of the file or of `choice.features`; and a reason for each
        column that is left out.

    Raises:
        RequestError: there is no such column; one has a number in most cells and something else in others; one that was
            asked for holds none; or there is no column of numbers.
    """
    ignored = {}
    if choice.features is not None:
        places = [table.place(name) for name in choice.features]
        for place in set(places) & set(taken):
            raise RequestError(f"data.source.features names {table.names[place]!r}, which is the label; leave it out")
    else:
        for name in choice.ignore:
            if str(name) not in table.names:
                table.place(name)  # says which one was meant
            ignored[str(name)] = "by data.source.ignore"
        places = [place for place, name in enumerate(table.names) if name not in ignored and place not in taken]
    found: dict[str, Cells] = {}
    for place in places:
        name, cells = table.names[place], cells_of(table, place, choice.missing_values)
        why = None if choice.features is not None else _no_feature(table, place, cells)
        if why is not None:
            ignored[name] = why
            continue
        table.place(name)  # refuses one that stands twice
        _refuse_odd(table, place, cells)
        if not cells.numbers:
            raise RequestError(f"{table.path}: data.source.features names {name!r}, which holds no number")
        found[name] = cells
    if choice.features is not None:
        others = [name for place, name in enumerate(table.names) if place not in (*places, *taken)]
        ignored = dict.fromkeys(others, "not in data.source.features")
    if not found:
        left_out = "".join(f"; {name}: {why}" for name, why in ignored.items())
        beside = " and ".join(repr(table.names[place]) for place in taken)
        raise RequestError(f"{table.path}: expected numeric feature columns beside {beside}, found none{left_out}")
    return found, ignored


def read_features(table: Table, names: Collection[str], choice: Choice) -> dict[str, Cells]:
    """The same columns of another file, by name, wherever they stand; missing ones and odd cells are refused."""
    found = {}
    for name in names:
        place = table.place(name)
        found[name] = cells_of(table, place, choice.missing_values)
        _refuse_odd(table, place, found[name])
    return found


def named_like_identifiers(names: Collection[str]) -> list[str]:
    """Those of the names that say so of numbers of things, such as ``patient_id``."""
    return [name for name in names if _IDENTIFIER.search(name)]


def _no_feature(table: Table, place: int, cells: Cells) -> str | None:
    """Why a column is no feature, or None if it is one."""
    name = table.names[place]
    if not cells.numbers and not len(cells.odd):
        return "missing in every row"
    if len(cells.odd) > cells.numbers:
        tokens = table.strings(place)
        sample = [tokens[row] for row in cells.odd[:1000]]
        if look_like_numbers(sample):
            raise RequestError(
                f"{table.where(cells.odd[0])}: {name!r} holds {sample[0]!r}, which looks like a number that is written "
                "for people; write plain numbers, set data.source.decimal, or leave the column out by "
                f"data.source.ignore=[{name}]"
            )
        return f"text, such as {sample[0][:30]!r}"
    if len(cells.missing) or len(cells.odd):
        return None
    values = cells.values
    whole = bool((values == np.floor(values)).all())
    if _UNNAMED.fullmatch(name):
        if whole and (place == 0 or _is_unique(values)):
            return "without a name: an index"
        raise RequestError(
            f"{table.path}: column {place + 1} holds numbers and has no name; name it in the header, or leave it out "
            f"by data.source.ignore=['{name}']"
        )
    if whole and _IDENTIFIER.search(name) and _is_unique(values):
        return "an identifier: each number once"
    if whole and len(values) >= _COUNTED and values[0] in (0, 1) and bool((np.diff(values) == 1).all()):
        return "counts the rows"
    return None


def _is_unique(values: NDArray[np.float64]) -> bool:
    return len(np.unique(values)) == len(values) > 1


def _refuse_odd(table: Table, place: int, cells: Cells) -> None:
    """Refuse cells that are neither numbers nor known as missing."""
    if not len(cells.odd):
        return
    name, tokens = table.names[place], table.strings(place)
    found = list(dict.fromkeys(tokens[row] for row in cells.odd))
    decimal = ", set data.source.decimal" if look_like_numbers(found) else ""
    raise RequestError(
        f"{table.where(cells.odd[0])}: expected numbers in {name!r}, got {listed(map(repr, found))} in "
        f"{len(cells.odd)} of {len(table)} rows; mend them{decimal}, or call them missing by "
        f"data.source.missing_values=[{listed(map(repr, found))}] with data.source.missing=drop_rows or mean, or leave "
        f"the column out by data.source.ignore=[{name}]"
    )
