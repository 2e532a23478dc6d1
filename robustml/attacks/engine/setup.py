"""What an attack settles before its first step: what it is for, how long a step is, where it starts, where it leads."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.draws import Draws
from robustml.errors import RequestError

Target = Literal["least_likely", "runner_up", "random"] | int | None
Kind = TypeVar("Kind")


def required(kind: type[Kind], threat: object, need: str) -> Kind:
    """The threat, which is of the kind that an attack is for.

    Args:
        kind: a class of `robustml.threats`.
        threat: any.
        need: such as "FMN needs an Lp threat", for the message.

    Raises:
        RequestError: it is of another kind.
    """
    if not isinstance(threat, kind):
        raise RequestError(f"{need}; the threat is {type(threat).__name__}")
    return threat


def require_counts(attack: object, *names: str) -> None:
    """Refuse fields of an attack that count something and are below 1; None counts nothing.

    Raises:
        RequestError: names the field.
    """
    for name in names:
        count = getattr(attack, name)
        if count is not None and count < 1:
            raise RequestError(f"{type(attack).__name__} needs {name} >= 1, got {count}")


def step_length(eps: float, step_size: float | None, relative: float | None, *, default: float) -> float:
    """The length of a step, from whichever of the two was given, or `default` times eps.

    Raises:
        RequestError: both were given, or one that is not positive.
    """
    if step_size is not None and relative is not None:
        raise RequestError(f"give step_size or relative_step_size, not both (got {step_size} and {relative})")
    for name, value in (("step_size", step_size), ("relative_step_size", relative)):
        if value is not None and not value > 0:
            raise RequestError(f"{name} must be > 0, got {value}")
    if step_size is not None:
        return step_size
    return eps * (default if relative is None else relative)


def noisy_start(x: Tensor, deviation: float, generator: Generator | None) -> Tensor:
    """`x` (N, ...) and Gaussian noise around it, not projected; with a `generator`, an example's noise is its own."""
    noise = torch.randn_like(x) if generator is None else Draws.of(x, generator).normal(*x.shape[1:]).to(x)
    return torch.add(x, noise, alpha=deviation)


def choose_target(target: Target, model: nn.Module, x: Tensor, y: Tensor, generator: Generator | None) -> Tensor | None:
    """The class (N,) that each example shall be taken for, never its own label unless a fixed class says so.

    Raises:
        RequestError: a class that the model does not have, or an unknown word.
    """
    if target is None:
        return None
    with torch.no_grad():
        logits = logits_of(model, x)
    classes = logits.shape[1]
    if isinstance(target, int):
        if not 0 <= target < classes:
            raise RequestError(f"target={target} is not a class of the model (0 to {classes - 1})")
        return torch.full_like(y, target)
    if target == "random":
        offset = 1 + (Draws.of(x, generator).uniform(1).squeeze(1) * (classes - 1)).long()
        return (y + offset) % classes
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, y.unsqueeze(1), True)
    if target == "least_likely":
        return logits.masked_fill(own, torch.inf).argmin(dim=1)
    if target == "runner_up":
        return logits.masked_fill(own, -torch.inf).argmax(dim=1)
    raise RequestError(f"target={target!r} is unknown; expected a class index, least_likely, runner_up or random")
