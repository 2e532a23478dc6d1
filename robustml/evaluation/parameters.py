"""What random attacks draw from, and their settings as plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor

from robustml.types import Attack


def attack_generator(seed: int, attack: str, device: torch.device) -> Generator:
    """What the attack of that name draws from, in every batch alike."""
    state = np.random.SeedSequence([seed, *attack.encode()]).generate_state(1)[0]
    return Generator(device=device).manual_seed(int(state))


def attack_parameters(attack: Attack, eps: float) -> dict[str, Any]:
    """The settings of an attack as plain values, for results.json, with the eps that it was called with."""
    if not dataclasses.is_dataclass(attack):
        return {"attack": getattr(attack, "__name__", type(attack).__name__)}
    values = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    eps = getattr(values.pop("threat", None), "eps", eps)
    plain = {key: _plain(value, eps) for key, value in values.items()}
    return {"attack": type(attack).__name__, "eps": eps} | plain


def _plain(value: Any, eps: float) -> Any:
    """A setting in a form that JSON can hold: the settings of an inner attack, the class of a surrogate model."""
    if isinstance(value, Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return attack_parameters(cast(Attack, value), eps)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, eps) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner, eps) for inner in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int) else type(value).__name__
