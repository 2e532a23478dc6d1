"""How any attack is called: ours, which are given the threat, and anybody's that carry a budget of their own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Generator, Tensor, nn

from robustml.types import Threat


def run_attack(
    attack: Any, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: Generator | None = None
) -> Any:
    """What `attack` makes of `x` (N, ...) with labels `y` (N,): what it returned, not looked at.

    `threat` and `generator` are handed over if it takes them, by these names or as ``**kwargs``.
    """
    names = _keywords(attack)
    given = {"threat": threat, "generator": generator}
    return attack(model, x, y, **{name: value for name, value in given.items() if names is None or name in names})


def has_own_budget(attack: Any) -> bool:
    """Whether the attack was built for a budget of its own, and keeps to that whatever the threat of the call."""
    names = _keywords(attack)
    return hasattr(attack, "threat") or (names is not None and "threat" not in names)


def refuse_misfit(method: Any, threat: Threat) -> None:
    """Ask an attack or an objective that is for some kinds of threats only whether this is one of them.

    Args:
        method: asked by its `check_threat`, where it has one; otherwise the attacks or the objective inside it are.
        threat: what the attacker may do.

    Raises:
        RequestError: it is for another kind.
    """
    if (check := getattr(method, "check_threat", None)) is not None:
        check(threat)
    elif not hasattr(method, "threat"):  # else what is inside keeps to that
        several = getattr(method, "attacks", None)
        inside = [*(several.values() if isinstance(several, Mapping) else ())]
        for inner in (*inside, getattr(method, "attack", None), getattr(method, "objective", None)):
            if inner is not None:
                refuse_misfit(inner, threat)


def _keywords(attack: Any) -> frozenset[str] | None:
    """The names of the arguments that it takes; None where it takes any."""
    try:
        parameters = inspect.signature(attack).parameters.values()
    except (TypeError, ValueError):  # built in: nothing is known of it
        return frozenset()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY)
