"""Objects as plain settings: the way back from what `building` makes, as far as there is one.

Dataclasses are written out, so that they can be built again. Anything else (a network, a function, a data set) was
made by code that no settings know: it is named, and marked as given, so that nobody tries to build it from its name
alone.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustml.workflows.settings.building import CALLABLE, GIVEN


def described(node: Any) -> Any:
    """Settings of `node` and of all that is in it: dicts, lists, texts, numbers. Plain settings stay what they are."""
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Path):
        return str(node)
    if isinstance(node, Mapping):
        return {key: described(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [described(value) for value in node]
    if isinstance(node, functools.partial) and not node.args:
        return {"_target_": _name(node.func), "_partial_": True, **described(node.keywords)}
    if isinstance(node, type) or inspect.isroutine(node):
        return {"_target_": CALLABLE, "path": _name(node), GIVEN: True}
    settings = {"_target_": _name(type(node))}
    if dataclasses.is_dataclass(node):
        settings |= {each.name: described(getattr(node, each.name)) for each in dataclasses.fields(node) if each.init}
        if settings["_target_"].startswith("robustml."):
            return settings
    return settings | {GIVEN: True}


def _name(found: Any) -> str:
    """The full name of a class or function: of the package that exports it, or else of its own module."""
    module, name = found.__module__, getattr(found, "__qualname__", type(found).__qualname__)
    package = module.rpartition(".")[0]
    return f"{package if getattr(sys.modules.get(package), name, None) is found else module}.{name}"
