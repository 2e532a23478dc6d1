"""A model of the attacker's own, borrowed to craft poison on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from robustml.calling import run_attack
from robustml.errors import RequestError
from robustml.modes import evaluating
from robustml.poisoning.pixels import in_unit_range, stored_within
from robustml.results import Budget
from robustml.types import Attack, Threat


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: several sum in another order, and then other bytes are poisoned on another machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def borrowed(surrogate: nn.Module) -> Iterator[torch.device]:
    """The surrogate in eval mode and one thread, and the device that it lives on; handed back as found."""
    device = next((tensor.device for tensor in (*surrogate.parameters(), *surrogate.buffers())), torch.device("cpu"))
    with evaluating(surrogate), one_thread():
        yield device


def attacked(
    attack: Attack,
    threat: Threat,
    surrogate: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: Generator,
    device: torch.device,
) -> Tensor:
    """Inputs under an attack, as the set stores them, within its budget: rounded towards the clean ones.

    Args:
        attack: to run.
        threat: what it may do.
        surrogate: borrowed.
        x: (N, ...) as stored.
        y: (N,) what the attack leads away from.
        generator: of the attack.
        device: of the surrogate.

    Raises:
        RequestError: the attack returns another shape, or what is no number.
    """
    x_adv = run_attack(attack, surrogate, in_unit_range(x).to(device), y.to(device), threat, generator).cpu()
    if x_adv.shape != x.shape or not bool(x_adv.isfinite().all()):
        found = "NaN or infinity" if x_adv.shape == x.shape else f"the shape {tuple(x_adv.shape)}"
        raise RequestError(f"poison.attack returned {found}; expected finite inputs of the shape {tuple(x.shape)}")
    return stored_within(x_adv.to(torch.float32), x)


def budget_of(threat: Threat, pairs: Sequence[tuple[Tensor, Tensor]]) -> Budget:
    """What an attack was allowed to change, and the most that it changed, in the unit of the threat.

    Args:
        threat: what it was allowed.
        pairs: inputs (N, ...) perturbed and clean, as stored.
    """
    largest = 0.0
    for both in pairs:
        for after, before in zip(*(torch.split(part, 1000) for part in both), strict=True):
            if len(after):
                largest = max(largest, float(threat.distance(in_unit_range(after), in_unit_range(before)).max()))
    return Budget(name="eps", asked=float(threat.eps), stored=largest)
