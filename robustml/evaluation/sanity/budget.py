"""Whether an attack used the budget that it is judged by: one that stayed far below it is no evidence.

An attack is called with the threat, or brings a budget of its own; what it did is looked at afterwards either way. One
that fails on an image goes to the edge of what it may do, or gives the image back as it was (minimum-norm
attacks, AutoAttack). One that gave up half way was built for another budget, or its steps do not reach.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustml.calling import has_own_budget
from robustml.evaluation.verdicts import AttackVerdicts, Bools, Floats
from robustml.results import Flag
from robustml.threats import LpBall
from robustml.types import Attack, Threat

# Signed steps reach the edge of a cube; a step of Euclidean length loses what the image box cuts off.
_USED = {"inf": 0.9, "2": 0.6, "1": 0.6}


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
        if getattr(attack, "gives_up", False) or not has_own_budget(attack):
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
