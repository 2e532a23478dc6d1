"""How an objective crafts its examples: by anybody's attack, in the mode that its paper ran the model in."""

from __future__ import annotations

from torch import Tensor, nn

from robustml.calling import run_attack
from robustml.modes import AttackMode, attacking
from robustml.objectives.labels import classes_of
from robustml.types import Attack, Threat


def craft(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, mode: AttackMode) -> Tensor:
    """What `attack` makes of `x` (N, ...) with labels `y` (N,) or distributions (N, C), whose likeliest class counts.

    Args:
        attack: ours, or one that carries its own budget.
        model: handed back as found.
        x: in [0, 1].
        y: labels.
        threat: what the attack may do.
        mode: how the model runs meanwhile, see `robustml.modes.attacking`.
    """
    with attacking(model, mode):
        x_adv: Tensor = run_attack(attack, model, x, classes_of(y), threat)
    return x_adv
