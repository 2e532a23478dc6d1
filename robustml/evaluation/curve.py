"""Accuracy as a function of eps: one attack at several strengths on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from torch import nn

from robustml.attacks import at_eps
from robustml.errors import RequestError
from robustml.evaluation.evaluator import Batches, evaluate
from robustml.evaluation.sanity import Flag
from robustml.reporting.schema import Rate
from robustml.types import Attack

__all__ = ["Curve", "accuracy_curve"]


@dataclass(frozen=True)
class Curve:
    """Robust accuracy at each eps, smallest first, and the flags that the shape of the curve raises."""

    attack: str
    eps: tuple[float, ...]
    robust_accuracy: tuple[Rate, ...]
    flags: tuple[Flag, ...]

    def to_dict(self) -> dict[str, Any]:
        """The `curve` block of results.json."""
        points = zip(self.eps, self.robust_accuracy, strict=True)
        return {
            "attack": self.attack,
            "points": [{"eps": eps, "robust_accuracy": accuracy.model_dump()} for eps, accuracy in points],
        }


def accuracy_curve(
    model: nn.Module, loader: Batches, name: str, attack: Attack, eps_values: Sequence[float], *, seed: int = 0
) -> Curve:
    """Run `attack` at each eps, independently, so that a curve that rises with eps can be seen.

    Args:
        model: as for `evaluate`.
        loader: as for `evaluate`; walked through once per eps.
        name: the attack's name.
        attack: rescaled by `robustml.attacks.at_eps`.
        eps_values: radii in the units of the images; duplicates are dropped.
        seed: the same for each eps, so that the starts only differ in scale.

    Raises:
        RequestError: no eps at all, or what `evaluate` raises.
    """
    radii = sorted({float(eps) for eps in eps_values})
    if not radii:
        raise RequestError("an accuracy-against-eps curve needs at least one eps, got none")
    rates, robust = [], []
    for eps in radii:
        rescaled = at_eps(attack, eps)
        threat = rescaled.threat  # type: ignore[attr-defined]
        results = evaluate(model, loader, {name: rescaled} if eps > 0 else {}, threat, seed=seed, examples=0)
        rates.append(results.worst_case)
        robust.append(results.verdicts.worst_case)
    flags = []
    for (small, before), (large, after) in pairwise(zip(radii, robust, strict=True)):
        lost, won = int((before & ~after).sum()), int((~before & after).sum())
        if won - lost > 3 * np.sqrt(won + lost):
            message = (
                f"{name} fools fewer images at eps={large:.4g} than at eps={small:.4g} ({won} won back, {lost} lost): "
                "a stronger attacker cannot do worse, so the attack is failing (masked gradients, or too few steps)"
            )
            flags.append(Flag("curve_not_monotone", message, name))
    return Curve(name, tuple(radii), tuple(rates), tuple(flags))
