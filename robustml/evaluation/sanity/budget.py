"""Whether an attack used the budget that it is judged by: one that stayed far below it is no evidence.

What an attack says of itself is compared before it runs; what it did is looked at afterwards, whatever it said. An
attack that fails on an image goes to the edge of what it may do, or gives the image back as it was (minimum-norm
attacks, AutoAttack). One that gave up half way was built for another budget, or its steps do not reach.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from robustml.errors import RequestError
from robustml.evaluation.verdicts import AttackVerdicts, Bools, Floats
from robustml.results import Flag
from robustml.threats import LpBall, Union
from robustml.types import Attack, Threat

__all__ = ["look_at_budget", "reach", "refuse_smaller_budget"]

# Signed steps reach the edge of a cube; a step of Euclidean length loses what the image box cuts off.
_USED = {"inf": 0.9, "2": 0.6, "1": 0.6}


def refuse_smaller_budget(name: str, attack: Attack, threat: Threat) -> list[Flag]:
    """Compare the threat that an attack names as its own, if it does, with the one that it is to be judged by.

    Returns:
        A flag where it keeps to another norm.

    Raises:
        RequestError: its eps is smaller, or its image box.
    """
    flags = []
    for own in _threats_of(attack):
        allowed: list[Any] = [threat, *(threat.balls if isinstance(threat, Union) else ())]
        alike = [each for each in allowed if _kind(each) == _kind(own)]
        if not alike:
            if isinstance(own, LpBall) and isinstance(threat, LpBall):
                message = (
                    f"{name} keeps to an L{own.norm} ball of eps={own.eps:.6g}, the threat is L{threat.norm} with "
                    f"eps={threat.eps:.6g}: what withstands it need not withstand the threat"
                )
                flags.append(Flag(name="budget_not_used", message=message, attack=name))
            continue
        largest = min(each.eps for each in alike)
        if own.eps < largest * (1 - 1e-6):
            raise RequestError(
                f"attack {name!r} was built for eps={own.eps:.6g}, the threat is eps={largest:.6g}: what withstands "
                "the smaller budget says nothing of the larger; build it for this threat, or evaluate at its own eps"
            )
        low, high = threat.bounds
        if own.bounds[0] > low + 1e-6 or own.bounds[1] < high - 1e-6:
            raise RequestError(
                f"attack {name!r} was built for images in {list(own.bounds)}, the threat allows {list(threat.bounds)}: "
                "build it for this threat"
            )
    return flags


def reach(x: Tensor, threat: Threat) -> Tensor | None:
    """How far each of `x` (N, ...) can be moved: eps, or the farthest corner of the box; None for other threats."""
    if not isinstance(threat, LpBall):
        return None
    low, high = threat.bounds
    corner = torch.where(x > (low + high) / 2, low, high)
    return threat.distance(corner, x).double().clamp_max(threat.eps)


def look_at_budget(
    name: str, attack: Attack, verdicts: AttackVerdicts, attacked: Bools, reached: Floats | None, threat: Threat
) -> list[Flag]:
    """The flag of an attack that stayed far below its budget on the images that it did not turn.

    Args:
        name: of the attack.
        attack: itself.
        verdicts: what it did to N images.
        attacked: which of them it was shown (N,).
        reached: how far each can be moved (N,), or None where that is not known.
        threat: what it may do.
    """
    eps = threat.eps
    failed = attacked & verdicts.robust
    if verdicts.pending or eps <= 0 or not failed.any():
        return []
    largest = float(verdicts.distance[attacked].max())
    if largest == 0:
        if getattr(attack, "gives_up", False):
            return []
        message = (
            f"{name} gives back every one of {int(attacked.sum())} images as it was (largest change 0 of {eps:.6g}): "
            "it is no attack, its gradients are zero, or it found nothing; the figure under it is the clean accuracy"
        )
        return [Flag(name="budget_not_used", message=message, attack=name)]
    if reached is None:
        return []
    # Of what came back unchanged nothing is known, where an attack may do that. Another that never came near the
    # budget on any image is another matter.
    moved = failed & (verdicts.distance > 0)
    if not moved.any():
        if getattr(attack, "gives_up", False) or any(True for _ in _threats_of(attack)):
            return []
        moved = attacked
    used = float((verdicts.distance[moved] / reached[moved].clip(min=1e-12)).max())
    if used >= _USED[str(getattr(threat, "norm", "inf"))]:
        return []
    message = (
        f"{name} moves none of the {int(failed.sum())} images that it fails on by more than "
        f"{float(verdicts.distance[moved].max()):.3g} of the {eps:.6g} that it may: it was built for a smaller budget, "
        "or its steps are too few or too small; what it leaves is not shown to be robust"
    )
    return [Flag(name="budget_not_used", message=message, attack=name)]


def _kind(threat: Any) -> tuple[str, str]:
    return type(threat).__name__, str(getattr(threat, "norm", ""))


def _threats_of(attack: Any, depth: int = 0) -> Iterator[Any]:
    """The threats that an attack and the attacks inside it were built for."""
    own = getattr(attack, "threat", None)
    if isinstance(getattr(own, "eps", None), int | float) and hasattr(own, "bounds"):
        yield own
    if depth < 3:
        for inner in _inside(attack):
            yield from _threats_of(inner, depth + 1)


def _inside(attack: Any) -> list[Any]:
    """The attacks that an attack is made of: in its fields, or in lists and mappings there."""
    if dataclasses.is_dataclass(attack):
        values = [getattr(attack, field.name) for field in dataclasses.fields(attack)]
    else:
        values = list(getattr(attack, "__dict__", {}).values())
    if isinstance(attack, tuple):
        values += list(attack)
    if isinstance(attack, functools.partial):
        values += [attack.func, *attack.args, *attack.keywords.values()]
    found = []
    for value in values:
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        found += [part for part in parts if callable(part) and hasattr(part, "threat") and not isinstance(part, type)]
    return found
