"""Train models that cannot be fooled, and find out which of yours can be.

Importing the package does no work: the names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustml.evaluation import evaluate
    from robustml.threats import LpBall
    from robustml.training import RobustClassifier
    from robustml.workflows.run import load_model

__all__ = ["LpBall", "RobustClassifier", "__version__", "evaluate", "load_model"]

__version__ = "0.1.0"

_HOMES = {
    "LpBall": "robustml.threats",
    "RobustClassifier": "robustml.training",
    "evaluate": "robustml.evaluation",
    "load_model": "robustml.workflows.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'robustml' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
