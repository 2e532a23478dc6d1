"""A model tried on two images before anything begins: what cannot work is refused in one line, with the shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.modes import evaluating


def require_trainable(model: nn.Module) -> None:
    """Look for something to train.

    Raises:
        RequestError: no parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RequestError(
            f"nothing in {type(model).__name__} can be trained: it has no parameter that requires a gradient (frozen "
            "by requires_grad_(False) or torch.jit.freeze, perhaps); unfreeze it"
        )


def try_model(model: nn.Module, x: Tensor, classes: int, smallest: int = 2) -> None:
    """Call a model in eval mode and as it is to be trained; its buffers, modes and random numbers stay as found.

    Args:
        model: images (N, ...) to logits (N, C).
        x: two images (2, ...) of the training set.
        classes: how many the data have.
        smallest: images in the smallest batch that training will see.

    Raises:
        RequestError: nothing can be trained, the model cannot take such images, changes them in place, does not return
            a row of at least `classes` logits for each, or cannot take a batch of one where there will be one.
    """
    require_trainable(model)
    floating = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    x = x.to(next(floating, x.dtype))
    name, shape = type(model).__name__, "x".join(map(str, x.shape[1:]))
    with _untouched(model), torch.enable_grad():
        with evaluating(model):
            _called(model, x, f"{name} cannot take images of shape {shape} (a batch is {tuple(x.shape)})", classes)
        _called(model, x, f"{name} cannot take images of shape {shape} in train mode", classes)
        if smallest == 1:
            _called(
                model,
                x[:1],
                f"{name} cannot train on the last batch of an epoch, which has one image (batch normalisation needs "
                "two): choose another data.batch_size, or set data.drop_last=true",
                classes,
            )


def _called(model: Callable[[Tensor], object], x: Tensor, complaint: str, classes: int) -> None:
    probe = x.clone()
    version = probe._version
    try:
        logits = model(probe)
    except RequestError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{complaint}: {reason}") from error
    name = type(model).__name__
    if probe._version != version:
        raise RequestError(
            f"{name} changes its input in place (a first layer with inplace=True, or x.sub_(...) in forward), and "
            "attacks need the images as they were: set inplace=False there, or begin forward with x = x.clone()"
        )
    if not isinstance(logits, Tensor):
        raise RequestError(
            f"{name} returned a {type(logits).__name__}; expected a tensor of logits (N, {classes}): choose "
            "model._target_=robustml.models.Wrapped with the model as model.function, and name the logits by "
            "model.logits_key"
        )
    found = f"{tuple(logits.shape)} for images of shape {tuple(x.shape)}"
    expected = f"expected logits of shape ({len(x)}, {classes}), one a class"
    if logits.ndim != 2 or len(logits) != len(x) or not logits.is_floating_point():
        raise RequestError(f"{name} returned shape {found}; {expected}")
    if logits.shape[1] == 1 and classes > 1:
        raise RequestError(
            f"{name} returned one logit an image, shape {tuple(logits.shape)}; {expected}: return a second one, "
            "torch.cat([torch.zeros_like(z), z], 1) says the same"
        )
    if logits.shape[1] < classes:
        raise RequestError(
            f"{name} tells {logits.shape[1]} classes apart, and the data have {classes}: it returned shape "
            f"{tuple(logits.shape)} for images of shape {tuple(x.shape)}; {expected}"
        )
    if not logits.requires_grad:
        raise RequestError(
            f"the logits of {name} have no gradient, so that it cannot be trained: its forward runs under "
            "torch.no_grad() or inference_mode, or detaches what it returns; leave that to whoever calls it"
        )


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Put buffers back, running statistics among them, and the state of the random number generators."""
    found = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = sorted({buffer.device.index or 0 for _, _, buffer, _ in found if buffer.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffers, name, buffer, before in found:
                    buffers[name] = buffer.copy_(before)
