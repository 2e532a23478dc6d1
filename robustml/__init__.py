"""Train models that cannot be fooled, and find out which of yours can be.

Importing the package does no work: the names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustml.threats import LpBall
    from robustml.training import RobustClassifier
    from robustml.workflows.evaluate import evaluate
    from robustml.workflows.extract import extract
    from robustml.workflows.fit import fit
    from robustml.workflows.run import Run, load_model, load_run
    from robustml.workflows.serve import serve
    from robustml.workflows.trojan import trojan

__all__ = [
    "LpBall",
    "RobustClassifier",
    "Run",
    "__version__",
    "evaluate",
    "extract",
    "fit",
    "load_model",
    "load_run",
    "serve",
    "trojan",
]

__version__ = "0.1.0"

_HOMES = {
    "LpBall": "robustml.threats",
    "RobustClassifier": "robustml.training",
    "Run": "robustml.workflows.run",
    "evaluate": "robustml.workflows.evaluate",
    "extract": "robustml.workflows.extract",
    "fit": "robustml.workflows.fit",
    "load_model": "robustml.workflows.run",
    "load_run": "robustml.workflows.run",
    "serve": "robustml.workflows.serve",
    "trojan": "robustml.workflows.trojan",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'robustml' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
