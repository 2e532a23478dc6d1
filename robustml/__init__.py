"""Train models that cannot be fooled, and find out which of yours can be.

Importing the package does no work: its names, which `__init__.pyi` lists for type checkers, editors and this module
alike, are loaded when they are first used.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__version__ = "0.1.0"


@cache
def _homes() -> dict[str, str]:
    """The public names, and the module that each is imported from."""
    import ast
    from pathlib import Path

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {each.name: str(node.module) for node in imports for each in node.names}


def __dir__() -> list[str]:
    return sorted(["__version__", *_homes()])


def __getattr__(name: str) -> Any:
    """Import a public name from its home, or a room of the house."""
    if name == "__all__":
        return __dir__()
    if (home := _homes().get(name)) is None:
        raise AttributeError(f"module 'robustml' has no attribute {name!r}")
    from importlib import import_module

    return import_module(f"robustml.{name}") if home == "robustml" else getattr(import_module(home), name)
