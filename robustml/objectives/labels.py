"""Labels as objectives meet them: a class index (N,), or the mass of every class (N, C) where images are mixed."""

from __future__ import annotations

from torch import Tensor


def classes_of(y: Tensor) -> Tensor:
    """The class (N,) of each label: `y` itself, or where it is a distribution (N, C), its most likely class."""
    return y if y.ndim == 1 else y.argmax(1)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """The share, a scalar, of logits (N, C) that name the class of `y`; outside the graph, for an objective's logs."""
    return (logits.detach().argmax(1) == classes_of(y)).float().mean()
