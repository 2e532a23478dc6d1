"""Make a training attack gentler: smaller steps, and more of them if wanted."""

from __future__ import annotations

import dataclasses
from typing import Any

from robustml.attacks import FGSM, FGSMRS, PGD
from robustml.errors import RequestError
from robustml.types import Attack

__all__ = ["gentler"]


def gentler(attack: Attack, factor: float, extra_steps: int = 0) -> Attack:
    """The attack with its step times `factor` and `extra_steps` more steps; same threat, start and loss.

    FGSM, from a random start or from none, becomes PGD, of which it is the case of one step.

    Raises:
        RequestError: the attack has no steps that could be changed.
    """
    plain: Any = _as_pgd(attack)
    fields = {field.name for field in dataclasses.fields(plain)} if dataclasses.is_dataclass(plain) else set()
    if not {"steps", "step_size", "relative_step_size"} <= fields:
        raise RequestError(
            f"the step of {type(attack).__name__} cannot be lowered: train with attack=pgd, fgsm_rs or fgsm, or choose "
            "action=warn or stop"
        )
    steps = plain.steps + extra_steps
    if plain.step_size is not None:
        return dataclasses.replace(plain, steps=steps, step_size=factor * plain.step_size)  # type: ignore[no-any-return]
    relative = 2.5 / plain.steps if plain.relative_step_size is None else plain.relative_step_size
    return dataclasses.replace(plain, steps=steps, relative_step_size=factor * relative)  # type: ignore[no-any-return]


def _as_pgd(attack: Attack) -> Attack:
    if isinstance(attack, FGSM):
        return PGD(attack.threat, steps=1, relative_step_size=1.0, random_start=False, loss=attack.loss)
    if isinstance(attack, FGSMRS):
        relative = attack.relative_step_size
        if attack.step_size is None and relative is None:
            relative = 1.25
        return PGD(
            attack.threat,
            steps=1,
            step_size=attack.step_size,
            relative_step_size=relative,
            clip_start=attack.clip_start,
            loss=attack.loss,
        )
    return attack
