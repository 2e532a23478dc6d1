"""Run a model in another mode and hand every submodule back exactly as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustml.errors import RequestError, nearest

AttackMode = Literal["train", "eval", "batch_stats"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode; restore each one's own mode afterwards (a frozen layer stays frozen)."""
    # A frozen TorchScript module has no mode.
    found = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    model.eval()
    try:
        yield
    finally:
        for module, training in found:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Switch off the gradient of every parameter, so that an attack differentiates with respect to the input only."""
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in found:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in found:
            parameter.requires_grad_(True)


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    with evaluating(model):
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True


@contextmanager
def attacking(model: nn.Module, mode: AttackMode) -> Iterator[None]:
    """The mode in which an objective crafts its adversarial examples. Papers differ, and their numbers depend on it.

    Args:
        model: the model under attack, in any mode.
        mode: ``"train"`` leaves the model as training has it, so that the attack's forward passes move the running
            batch statistics (Wong 2020, Rice 2020); ``"eval"`` uses the running statistics and no dropout (TRADES,
            MART); ``"batch_stats"`` normalises with the batch's own statistics, leaves the running ones alone, and
            drops nothing out (Gowal 2020).

    Raises:
        RequestError: the mode has another name.
    """
    if mode == "train":
        yield
    elif mode == "eval":
        with evaluating(model):
            yield
    elif mode == "batch_stats":
        with _batch_statistics(model):
            yield
    else:
        raise RequestError(f"attack_mode={mode!r} is unknown; {nearest(str(mode), ('train', 'eval', 'batch_stats'))}")
