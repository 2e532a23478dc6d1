"""The input gradient of a convolution over one to three channels, as one matrix product: for CPUs.

An attack differentiates the first layer with respect to the image, which training never does, so the libraries are not
tuned for it: oneDNN pads the single channel of a grey image to a full vector. Folding the product of weights and output
gradients back into an image does the same sum, several times as fast where there are many filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_MOST_CHANNELS = 3
_FILTERS_A_CHANNEL = 8
_NOTHING: AbstractContextManager[Any] = nullcontext()


# Models are looked through once: a mode that has nothing to do still costs every operation of the forward pass.
_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def thin_convolutions(model: nn.Module, x: Tensor) -> AbstractContextManager[Any]:
    """`ThinConvolutions` where it has something to do: on a CPU, images (N, C, H, W), a model with thin layers."""
    if x.device.type != "cpu" or x.ndim != 4:
        return _NOTHING
    found = _known.get(model)
    if found is None:
        found = _known[model] = any(
            isinstance(layer, nn.Conv2d) and layer.groups == 1 and _is_thin(*layer.weight.shape[:2])
            for layer in model.modules()
        )
    return ThinConvolutions() if found else _NOTHING


def _is_thin(filters: int, channels: int) -> bool:
    return channels <= _MOST_CHANNELS and filters >= _FILTERS_A_CHANNEL * channels


class ThinConvolutions(TorchFunctionMode):
    """Inside this context, convolutions of few channels and many filters hand back their input gradient faster.

    No module is touched; the outputs are the same and the gradients equal up to rounding. Does nothing off the CPU.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Exchange `torch.conv2d` where it pays."""
        if func is torch.conv2d and not kwargs and _pays(*args):
            return _ThinConvolution.apply(*args)
        return func(*args, **(kwargs or {}))


def _pays(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    filters, channels = weight.shape[:2]
    return (
        x.requires_grad
        and not weight.requires_grad
        and (bias is None or not bias.requires_grad)
        and x.device.type == "cpu"
        and x.ndim == 4
        and groups == 1
        and not isinstance(padding, str)
        and _is_thin(filters, channels)
    )


class _ThinConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.dtype = x.dtype
        ctx.fold = {"output_size": x.shape[2:], "stride": stride, "padding": padding, "dilation": dilation}
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        weight = weight.to(gradient.dtype)  # autocast runs the forward pass in half precision
        columns = weight.flatten(1).t() @ gradient.flatten(2)
        image = functional.fold(columns.to(ctx.dtype), kernel_size=weight.shape[2:], **ctx.fold)
        return image, None, None, None, None, None, None
