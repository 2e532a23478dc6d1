"""What a model needs around it to be judged: its own precision, images of its own to write on, a second logit.

Found out by trying the model on images, so that a model which needs nothing stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustml.errors import RequestError

__all__ = ["Cast", "Copied", "TwoLogits", "fitted"]


class Cast(nn.Module):
    """Shows `model` the images (N, ...) in `dtype`: attacks go on in theirs, where small steps are not rounded away."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, x: Tensor) -> Any:
        """What the model makes of them."""
        return self.model(x.to(self.dtype))


class Copied(nn.Module):
    """Shows `model` a copy of the images (N, ...), since it writes on what it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        """What the model makes of them."""
        return self.model(x.clone())


class TwoLogits(nn.Module):
    """Two logits (N, 2) of a `model` of one, z: 0 and z, whose softmax is the sigmoid of z."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, ...) to logits (N, 2)."""
        score: Tensor = self.model(x).reshape(len(x))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@torch.no_grad()
def fitted(model: nn.Module, x: Tensor) -> nn.Module:
    """The model, with around it what it turns out to need on images `x` (N, ...).

    Args:
        model: in eval mode, on the device of `x`.
        x: floats in [0, 1].

    Raises:
        RequestError: it cannot take the images, or gives one probability an image where one logit is expected.
    """
    own = next((tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()), x.dtype)
    shown = x.clone()
    try:
        output = model(shown)
    except Exception as error:
        if isinstance(error, RequestError):
            raise
        if own == x.dtype:
            raise RequestError(_refusal(x, error)) from error
        model = Cast(model, own)
        try:
            output = model(shown)
        except Exception as again:
            raise RequestError(_refusal(x, again)) from again
    if not torch.equal(shown, x):
        model = Copied(model)
    if isinstance(output, Tensor) and output.is_floating_point() and output.shape in ((len(x),), (len(x), 1)):
        if bool(((output >= 0) & (output <= 1)).all()):
            raise RequestError(
                "the model gives one number in [0, 1] an image, a probability it seems: return the score before the "
                "sigmoid, whose sign says which class, or two logits"
            )
        model = TwoLogits(model)
    return model


def _refusal(x: Tensor, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"the model cannot take images of shape {tuple(x.shape)}, {x.dtype} on {x.device}: {reason}"
