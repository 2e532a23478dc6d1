"""Labels as they come in files or are named in a request, to class indices."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from robustml.data.understood import listed
from robustml.errors import RequestError, nearest

# A column with more distinct values than this, most of them in one row, is a name or a measurement and no label.
_MANY = 1000


def class_index(value: object, class_names: Sequence[str]) -> int:
    """The label of the class that a request names, such as ``poison.target=2``.

    A class of that name comes first, whatever its place: 2 is the class named "2" where there is one. An integer that
    is no class's name counts from 0.

    Args:
        value: a name, or a place in `class_names`.
        class_names: one name a class, in label order.

    Raises:
        RequestError: there is no such class.
    """
    names = list(class_names)
    # YAML reads a class named true as a boolean
    for name in (str(value), str(value).lower()) if isinstance(value, bool) else (str(value),):
        if name in names:
            return names.index(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return value
    raise RequestError(
        f"there is no class {value!r}; {nearest(str(value), names)} (or a number from 0 to {len(names) - 1})"
    )


def encode_labels(
    values: Sequence[object],
    class_names: Sequence[str] | None,
    where: Callable[[int], str],
    *,
    coded: Sequence[str] | None = None,
) -> tuple[Tensor, tuple[str, ...]]:
    """Turn a label column into class indices.

    A class is known by its name: text (blanks around it do not count), "True" or "False", or a whole number in decimal
    (2021, 2021.0). The text "01" is another class than the number 1, the text "1" is the same. Numbers have an order
    and no place: years are as many classes as there are different years.

    Args:
        values: one label a row, all numbers or all text.
        class_names: the known classes in label order, such as those of the training part; None takes those in
            `values`, numbers by size and text by the alphabet.
        where: names row `i` in messages, such as "train.csv, line 7".
        coded: what whole numbers stand for, where the file itself says so (a `ClassLabel` column of the Hub): 0 is the
            first of these names. It is also the order of the classes where `class_names` is None.

    Returns:
        The labels (N,) int64, and the class names.

    Raises:
        RequestError: on a missing label, a mixture of kinds, a label outside the known classes, or values that cannot
            be labels since nearly every row has its own.
    """
    labels = [_label(value, row, where) for row, value in enumerate(values)]
    numbers = {label for label in labels if isinstance(label, int)}
    for row, label in enumerate(labels):
        if numbers and not isinstance(label, int):
            raise RequestError(
                f"{where(row)}: expected labels that are all integers or all strings, got the string {label!r} among "
                "integers"
            )
        if isinstance(label, int) and coded is not None and not 0 <= label < len(coded):
            raise RequestError(
                f"{where(row)}: expected a label in 0..{len(coded) - 1}, got {label}; drop unlabelled rows"
            )
        if label == -1 and coded is None and 0 in numbers and min(numbers) == -1:
            raise RequestError(
                f"{where(row)}: the label -1 beside 0 mostly means that there is none: drop the row, or write the "
                "classes in words"
            )
    if coded is not None:
        labels = [_text(coded[label]) if isinstance(label, int) else label for label in labels]
        class_names = coded if class_names is None else class_names
    if class_names is None:
        distinct = sorted(numbers) if numbers else sorted(set(map(str, labels)))
        if len(distinct) > max(_MANY, len(labels) / 2):
            raise RequestError(
                f"{where(0)}: {len(distinct):,} different labels in {len(labels):,} rows are no classes; name another "
                "column, or sort the values into classes"
            )
        class_names = tuple(map(str, distinct))
    names = tuple(map(_text, class_names))
    index = {name: label for label, name in enumerate(names)}
    try:
        return torch.tensor([index[str(label)] for label in labels], dtype=torch.int64), names
    except KeyError:
        row = next(row for row, label in enumerate(labels) if str(label) not in index)
        raise RequestError(f"{where(row)}: {unknown_classes([str(labels[row])], names)}") from None


def _text(name: str) -> str:
    """A name without what nobody sees: blanks around it, and accents that are written in two ways."""
    return unicodedata.normalize("NFC", name.strip())


def _label(value: object, row: int, where: Callable[[int], str]) -> int | str:
    """A value as the whole number or the text that it is, whatever library it comes from."""
    if isinstance(value, np.generic):
        value = value.item()
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    if absent or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own, which it need not be imported for
        value = ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        value = _text(value)
        if not value:
            raise RequestError(f"{where(row)}: expected a label, found none; fill it in or drop the row")
        return value
    if isinstance(value, int):
        return value
    kind = type(value).__name__
    raise RequestError(f"{where(row)}: expected labels that are all integers or all strings, got the {kind} {value!r}")


def are_numbers(names: Sequence[str]) -> bool:
    """Whether all classes are whole numbers, as they are where nobody named them."""
    return all(name.isdecimal() and str(int(name)) == name for name in names)


def unknown_classes(unknown: Sequence[str], known: Sequence[str]) -> str:
    """The message on classes that a model or a training part does not know, in one line."""
    these = listed(map(repr, unknown), 5)
    said = f"the label {these} is no training class" if len(unknown) == 1 else f"{these} are no training classes"
    if are_numbers(unknown) and not any(are_numbers([name]) for name in known):
        return (
            f"{said}: numbers without names cannot be matched with classes that have names ({listed(known, 10)}); "
            "write names in both"
        )
    return f"{said}; {nearest(unknown[0], known) if len(known) <= 20 else listed(known, 10)}"
