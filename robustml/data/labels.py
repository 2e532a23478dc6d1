"""Labels as they come in files or are named in a request, to class indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustml.errors import RequestError, nearest

__all__ = ["class_index", "encode_labels"]


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
    values: Sequence[object], class_names: tuple[str, ...] | None, where: Callable[[int], str]
) -> tuple[Tensor, tuple[str, ...]]:
    """Turn a label column into class indices.

    Integers are kept; strings (and booleans) become their position in the sorted class names.

    Args:
        values: one label a row, all integers or all strings.
        class_names: the known classes in label order, or None to read them off `values`.
        where: names row `i` in messages, such as "train.csv, line 7".

    Returns:
        The labels (N,) int64, and the class names.

    Raises:
        RequestError: on a missing label, a mixture of kinds, or a label outside the known classes.
    """
    labels: list[object] = []
    for row, value in enumerate(values):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise RequestError(f"{where(row)}: expected a label, found none; fill it in or drop the row")
        labels.append(str(value) if isinstance(value, bool) else value)
    integers = [label for label in labels if isinstance(label, int)]
    if len(integers) == len(labels):
        return _integers(integers, class_names, where)
    return _strings(labels, class_names, where)


def _integers(
    labels: list[int], class_names: tuple[str, ...] | None, where: Callable[[int], str]
) -> tuple[Tensor, tuple[str, ...]]:
    if class_names is None:
        class_names = tuple(str(label) for label in range(max(labels, default=-1) + 1))
    for row, label in enumerate(labels):
        if not 0 <= label < len(class_names):
            raise RequestError(
                f"{where(row)}: expected a label in 0..{len(class_names) - 1}, got {label}"
                "; drop unlabelled rows, and see that the training part holds every class"
            )
    return torch.tensor(labels, dtype=torch.int64), class_names


def _strings(
    labels: list[object], class_names: tuple[str, ...] | None, where: Callable[[int], str]
) -> tuple[Tensor, tuple[str, ...]]:
    for row, label in enumerate(labels):
        if not isinstance(label, str):
            kind = type(label).__name__
            raise RequestError(
                f"{where(row)}: expected labels that are all integers or all strings, got the {kind} {label}"
            )
    if class_names is None:
        class_names = tuple(sorted({str(label) for label in labels}))
    index = {name: position for position, name in enumerate(class_names)}
    for row, label in enumerate(labels):
        if label not in index:
            raise RequestError(
                f"{where(row)}: the label {label!r} is no training class; {nearest(str(label), class_names)}"
            )
    return torch.tensor([index[str(label)] for label in labels], dtype=torch.int64), class_names
