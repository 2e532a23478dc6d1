"""The same attack under a larger or smaller budget, for curves of accuracy against eps."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from robustml.attacks.transfer import Transfer
from robustml.errors import RequestError
from robustml.types import Attack

__all__ = ["at_eps"]


def at_eps(attack: Attack, eps: float) -> Attack:
    """A copy of `attack` whose threat has radius `eps`; relative step sizes follow it, fixed ones stay.

    Raises:
        RequestError: the attack is not a dataclass with a `threat` that is one too, so that nothing can be exchanged.
    """
    if isinstance(attack, Transfer):
        return dataclasses.replace(attack, attack=at_eps(attack.attack, eps))
    threat = getattr(attack, "threat", None)
    if not (dataclasses.is_dataclass(attack) and dataclasses.is_dataclass(threat)):
        raise RequestError(
            f"{type(attack).__name__} cannot be run at another eps: expected a dataclass with a `threat` field "
            "that is a dataclass with an `eps` field"
        )
    changed = dataclasses.replace(cast(Any, threat), eps=eps)
    return cast(Attack, dataclasses.replace(cast(Any, attack), threat=changed))
