"""Logits of a model, and their gradient with respect to the input and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustml.attacks.engine.thin_convolution import thin_convolutions
from robustml.errors import RequestError
from robustml.modes import frozen


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """The logits (N, C) of `model` on `x` (N, ...), in float32 at least.

    Raises:
        RequestError: the model returned something that is not one row of class scores per example.
    """
    output = model(x)
    if not isinstance(output, Tensor):
        raise RequestError(
            f"the model returned a {type(output).__name__}; expected a tensor of logits (N, classes): say where they "
            "are, robustml.models.Wrapped(model, logits_key=<name or position>), or adapter.logits_key=... for evaluate"
        )
    if output.ndim != 2 or len(output) != len(x):
        raise RequestError(
            f"the model returned shape {tuple(output.shape)} for {len(x)} examples; expected ({len(x)}, classes)"
        )
    # Half-precision logits would round away the differences that an attack climbs.
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


@contextmanager
def crafting(model: nn.Module, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """What every attack runs in: frozen parameters, and `tensors` as plain ones, whatever mode or graph they are from.

    Works under `no_grad` and `inference_mode`, which Lightning and users switch on around evaluations.
    """
    with frozen(model), torch.inference_mode(False), torch.no_grad():
        yield tuple(tensor.clone() if tensor.is_inference() else tensor.detach() for tensor in tensors)


def input_gradient(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The gradient (N, ...) of each example's own loss with respect to `x`, and the logits (N, C).

    Args:
        model: called once, in the mode it is in.
        x: (N, ...), made outside of inference mode (see `crafting`).
        loss: logits (N, C) to losses (N,).
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        with thin_convolutions(model, leaf):
            logits = logits_of(model, leaf)
        # Examples do not mix, so the gradient of the sum holds the gradient of each.
        (gradient,) = torch.autograd.grad(loss(logits).sum(), leaf)
    return gradient, logits.detach()
