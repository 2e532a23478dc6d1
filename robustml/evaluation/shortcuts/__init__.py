"""Marks that a model relies on: how much, where the mark is known, and where to look, where it is not."""

from robustml.evaluation.shortcuts.reliance import shortcut_reliance
from robustml.evaluation.shortcuts.search import find_shortcuts

__all__ = ["find_shortcuts", "shortcut_reliance"]
