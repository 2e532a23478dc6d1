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
    from robustml.workflows.feedback import feedback
    from robustml.workflows.fit import fit
    from robustml.workflows.poison import poison
    from robustml.workflows.run import Run, load_model, load_run
    from robustml.workflows.serve import serve
    from robustml.workflows.shortcuts import shortcuts
    from robustml.workflows.sweep import sweep
    from robustml.workflows.trojan import trojan

__all__ = [
    "LpBall",
    "RobustClassifier",
    "Run",
    "__version__",
    "evaluate",
    "extract",
    "feedback",
    "fit",
    "load_model",
    "load_run",
    "poison",
    "serve",
    "shortcuts",
    "sweep",
    "trojan",
]

__version__ = "0.1.0"

_HOMES = {
    "LpBall": "robustml.threats",
    "RobustClassifier": "robustml.training",
    **dict.fromkeys(("Run", "load_model", "load_run"), "robustml.workflows.run"),
    **{
        name: f"robustml.workflows.{name}"
        for name in ("evaluate", "extract", "feedback", "fit", "poison", "serve", "shortcuts", "sweep", "trojan")
    },
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'robustml' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
