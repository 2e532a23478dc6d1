"""A model of the attacker's own, borrowed to craft poison on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from robustml.modes import evaluating

__all__ = ["borrowed", "one_thread"]


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
