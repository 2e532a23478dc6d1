"""Change the attack inside an objective, whatever wraps it, and leave the objective that was given as it was."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from robustml.errors import RequestError
from robustml.types import Attack, Objective

__all__ = ["replaced", "with_attack"]


def with_attack(objective: Objective, change: Callable[[Attack], Attack]) -> Objective:
    """The same objective with another attack: that of its `attack` field, or of the objective in its `objective` field.

    Args:
        objective: a dataclass or an `nn.Module`; it is not changed. A new module shares parameters and buffers with it.
        change: the attack to its replacement.

    Raises:
        RequestError: neither `objective` nor any objective within has an attack.
    """
    if getattr(objective, "attack", None) is not None:
        return replaced(objective, "attack", change(objective.attack))  # type: ignore[attr-defined]
    inner = getattr(objective, "objective", None)
    if inner is None:
        raise RequestError(
            f"the objective {type(objective).__name__} has no attack that could be changed; choose one with an "
            "`attack` field (objective=pgd, for example), or leave out the callback that changes attacks"
        )
    return replaced(objective, "objective", with_attack(inner, change))


def replaced(objective: Objective, field: str, value: Any) -> Objective:
    """The same objective with another value in one of its fields; a new module shares all others with the old one."""
    if dataclasses.is_dataclass(objective) and not isinstance(objective, nn.Module):
        return cast(Objective, dataclasses.replace(objective, **{field: value}))
    changed = copy.copy(objective)
    if isinstance(changed, nn.Module):
        # A shallow copy shares the registry of submodules; without its own, the original would change too.
        changed._modules = dict(changed._modules)
    setattr(changed, field, value)
    return changed
