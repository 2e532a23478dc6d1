"""What a model needs around it to be judged: its own precision, images of its own to write on, a second logit.

Found out by trying the model on images, so that a model which needs nothing stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustml.errors import RequestError


class Fitted(nn.Module):
    """A model with what it needs around it.

    Args:
        model: images (N, ...) to logits (N, C), or to one score (N,) or (N, 1).
        dtype: to show it the images in: attacks go on in theirs, where small steps are not rounded away. None for that
            of the images.
        writes: it writes on what it is shown, and gets a copy.
        one_logit: it gives one score z an image: the logits are 0 and z, whose softmax is the sigmoid of z.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype | None = None, writes: bool = False, one_logit: bool = False
    ) -> None:
        super().__init__()
        self.model, self.dtype, self.writes, self.one_logit = model, dtype, writes, one_logit

    def forward(self, x: Tensor) -> Any:
        """Images (N, ...) to what the model makes of them, logits (N, 2) of one score."""
        x = x.clone() if self.writes else x
        output = self.model(x if self.dtype is None else x.to(self.dtype))
        if not self.one_logit:
            return output
        score = output.reshape(len(x))
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
    shown, dtype = x.clone(), None
    try:
        output = model(shown)
    except RequestError:
        raise
    except Exception as error:
        if own == x.dtype:
            raise RequestError(_refusal(x, error)) from error
        dtype = own
        try:
            output = Fitted(model, dtype)(shown)
        except Exception as again:
            raise RequestError(_refusal(x, again)) from again
    writes = not torch.equal(shown, x)
    one_logit = isinstance(output, Tensor) and output.is_floating_point() and output.shape in ((len(x),), (len(x), 1))
    if one_logit and bool(((output >= 0) & (output <= 1)).all()):
        raise RequestError(
            "the model gives one number in [0, 1] an image, a probability it seems: return the score before the "
            "sigmoid, whose sign says which class, or two logits"
        )
    return Fitted(model, dtype, writes, one_logit) if dtype is not None or writes or one_logit else model


def _refusal(x: Tensor, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"the model cannot take images of shape {tuple(x.shape)}, {x.dtype} on {x.device}: {reason}"
