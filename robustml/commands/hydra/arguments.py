"""Values of a composed config held against the annotations of what they are arguments of, before anything is built."""

from __future__ import annotations

import inspect
import math
import pydoc
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from robustml.errors import RequestError
from robustml.workflows.settings.building import GIVEN

# Known once the data are loaded, and null until then.
_OF_THE_DATA = frozenset({"shape", "num_classes", "class_names"})
_LARGEST_SEED = 2**32 - 1  # what numpy takes
_CALLED: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): ""}


def check_arguments(settings: Any) -> None:
    """Refuse a number where a flag is expected, half a step, a learning rate that is no number, a negative seed.

    Only the kinds of values are held against the annotations, and only where those are plain; ranges are the business
    of whoever takes the value.

    Args:
        settings: of a command, resolved, with fractions such as ``8/255`` as numbers.

    Raises:
        RequestError: names the key, what is expected and what arrived.
    """
    for key, value in _seeds(settings):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_SEED:
            raise RequestError(f"{key} must be a whole number from 0 to {_LARGEST_SEED}, got {value!r}")
    for key, target, arguments in _calls(settings, ""):
        hints = _annotations(target)
        for name in arguments.keys() & hints.keys():
            if arguments[name] is None and name in _OF_THE_DATA:
                continue
            _check(key + name, arguments[name], hints[name])


def _check(key: str, value: Any, hint: Any) -> None:
    if not _fits(value, kinds := _kinds(hint)):
        raise RequestError(f"{key} must be {_expected(kinds)}, got {'null' if value is None else repr(value)}")
    lists = [member for member in (hint, *typing.get_args(hint)) if typing.get_origin(member) in (list, Sequence)]
    for index, element in enumerate(value if lists and isinstance(value, list) else ()):
        _check(f"{key}[{index}]", element, typing.get_args(lists[0])[0])


def _seeds(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("seed", "split_seed") and value is not None:
                yield f"{prefix}{key}", value
            yield from _seeds(value, f"{prefix}{key}.")


def _calls(node: Any, prefix: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each `_target_` with the dotted key in front of its arguments, and those."""
    if isinstance(node, Mapping):
        if not isinstance(node.get("_partial_", False), bool):
            raise RequestError(f"{prefix}_partial_ must be true or false, got {node['_partial_']!r}")
        # What was given is never built, so that its name, which may be a stranger's, is not looked up either.
        if isinstance(target := node.get("_target_"), str) and not node.get(GIVEN):
            yield prefix, target, {str(key): value for key, value in node.items() if not str(key).startswith("_")}
        for key, value in node.items():
            yield from _calls(value, f"{prefix}{key}.")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _calls(value, f"{prefix.removesuffix('.')}[{index}].")


def _annotations(target: str) -> Mapping[str, Any]:
    """The annotated parameters of a class or function; none where it cannot be found or read."""
    try:
        found: Any = pydoc.locate(target)
        names = inspect.signature(found).parameters
        hints = typing.get_type_hints(inspect.unwrap(found.__init__) if inspect.isclass(found) else found)
    except Exception:  # whoever builds it has the better words
        return {}
    return {name: hint for name, hint in hints.items() if name in names}


def _kinds(hint: Any) -> set[Any]:
    """The members of a union, or the one type that an annotation names, without what is in its brackets.

    A config has one kind of list, whatever kind of sequence it is for.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {kind for member in typing.get_args(hint) for kind in _kinds(member)}
    if origin in (tuple, Sequence):
        return {list}
    return {hint if origin is None or origin is Literal else origin}


def _fits(value: Any, kinds: set[Any]) -> bool:
    if not all(kind in _CALLED or isinstance(kind, type) for kind in kinds):
        return not _is_nan(value)  # Any, a type variable, a choice of words: whoever takes it has the better words
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int):
        return int in kinds or float in kinds
    if isinstance(value, float):
        return float in kinds and not _is_nan(value)
    if isinstance(value, (dict, list)) and kinds <= {dict, list, type(None)}:
        return type(value) in kinds
    if kinds <= {*_CALLED, dict, list}:
        if isinstance(value, str):
            return str in kinds or (float in kinds and value.lstrip("+-") in ("inf", "infinity"))  # p of an Lp ball
        return value is None and type(None) in kinds
    return value is not None or type(None) in kinds


def _expected(kinds: set[Any]) -> str:
    words = [_CALLED[kind] for kind in _CALLED if kind in kinds and kind is not type(None)]
    others = kinds - _CALLED.keys() - {dict}
    words += ["settings"] if dict in kinds else []
    words += ["a list"] if list in kinds else []
    if others - {list}:
        words.append("settings with a _target_")
    return " or ".join([*words, "null"] if type(None) in kinds else words)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
