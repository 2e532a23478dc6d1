"""Change the attack inside an objective, whatever wraps it, and leave the objective that was given as it was."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from robustml.attacks import FGSM, FGSMRS, PGD
from robustml.errors import RequestError
from robustml.types import Attack, Objective


def with_attack(objective: Objective, change: Callable[[Attack], Attack]) -> Objective:
    """The same objective with another attack: that of its `attack` field, or of the objective in its `objective` field.

    Args:
        objective: a dataclass or an `nn.Module`; it is not changed. A new module shares parameters and buffers with it.
        change: the attack to its replacement.

    Raises:
        RequestError: neither `objective` nor any objective within has an attack.
    """
    if (attack := getattr(objective, "attack", None)) is not None:
        return _replaced(objective, "attack", change(attack))
    if (inner := getattr(objective, "objective", None)) is not None:
        return _replaced(objective, "objective", with_attack(inner, change))
    raise RequestError(
        f"the objective {type(objective).__name__} has no attack that could be changed; choose one with an "
        "`attack` field (objective=pgd, for example), or leave out the callback that changes attacks"
    )


def with_smaller_steps(attack: Attack, factor: float, extra_steps: int = 0) -> Attack:
    """The attack with its step times `factor` and `extra_steps` more steps; same start and loss.

    FGSM, from a random start or from none, becomes PGD, of which it is the case of one step.

    Raises:
        RequestError: the attack has no steps that could be changed.
    """
    plain: Any = attack
    if isinstance(attack, FGSM):
        plain = PGD(steps=1, relative_step_size=1.0, random_start=False, loss=attack.loss)
    elif isinstance(attack, FGSMRS):
        relative = 1.25 if attack.step_size is None and attack.relative_step_size is None else attack.relative_step_size
        size, clip = attack.step_size, attack.clip_start
        plain = PGD(steps=1, step_size=size, relative_step_size=relative, clip_start=clip, loss=attack.loss)
    if not has_fields(plain, "steps", "step_size", "relative_step_size"):
        raise RequestError(
            f"the step of {type(attack).__name__} cannot be lowered: train with attack=pgd, fgsm_rs or fgsm, or choose "
            "action=warn or stop"
        )
    steps = plain.steps + extra_steps
    if plain.step_size is not None:
        return cast(Attack, dataclasses.replace(plain, steps=steps, step_size=factor * plain.step_size))
    relative = 2.5 / plain.steps if plain.relative_step_size is None else plain.relative_step_size
    return cast(Attack, dataclasses.replace(plain, steps=steps, relative_step_size=factor * relative))


def has_fields(attack: object, *names: str) -> bool:
    """Whether it is a dataclass with all of these fields."""
    return dataclasses.is_dataclass(attack) and {*names} <= {field.name for field in dataclasses.fields(attack)}


def _replaced(objective: Objective, field: str, value: Any) -> Objective:
    if dataclasses.is_dataclass(objective) and not isinstance(objective, nn.Module):
        return cast(Objective, dataclasses.replace(objective, **{field: value}))
    changed = copy.copy(objective)
    if isinstance(changed, nn.Module):
        # A shallow copy shares the registry of submodules; without its own, the original would change too.
        changed._modules = dict(changed._modules)
    setattr(changed, field, value)
    return changed
