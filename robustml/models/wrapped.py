"""Any callable as a model: picks the logits out of what it returns, and normalises in front of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.models.normalize import PerChannel, normalization


class Wrapped(nn.Module):
    """Call `function` on images (N, ...) in [0, 1], normalised where `mean` and `std` are given, for logits (N, C).

    A module inside is found by `parameters()`, `eval()` and `state_dict()`; any other callable must be in evaluation
    mode already, and attacks by gradients need it to be differentiable by torch.

    Args:
        function: a module, a function or any object that can be called with a batch.
        logits_key: where the logits are in an output that is a mapping (by name), a sequence (by position), or an
            object with attributes (by name).
        mean: normalisation in front of `function`, one value a channel; None for none.
        std: see `mean`.

    Raises:
        RequestError: `function` cannot be called, or the normalisation does not fit; when called, the output has no
            entry `logits_key`, or none was named for an output of several.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Any],
        logits_key: str | int | None = None,
        mean: PerChannel = None,
        std: PerChannel = None,
    ) -> None:
        super().__init__()
        if not callable(function):
            raise RequestError(f"a model must be callable with a batch of images, got {type(function).__name__}")
        self.normalize = normalization(len(mean or ()), mean, std)
        self.function = function
        self.logits_key = logits_key

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, ...) in [0, 1] to logits (N, C)."""
        output = self.function(self.normalize(x))
        if isinstance(output, Tensor):
            return output
        if isinstance(self.logits_key, str) and isinstance(found := getattr(output, self.logits_key, None), Tensor):
            return found  # a named tuple, or an object of the user's
        if isinstance(output, Mapping):
            known: list[Any] = list(output)
        elif isinstance(output, Sequence):
            known = list(range(len(output)))
        else:
            raise RequestError(f"the model returned a {type(output).__name__}; expected logits (N, classes)")
        if self.logits_key not in known:
            raise RequestError(
                f"the model returned a {type(output).__name__} of {', '.join(map(str, known))}, and "
                f"logits_key={self.logits_key} is none of them: name the one that holds the logits"
            )
        logits: Tensor = output[self.logits_key]
        return logits


def as_module(
    model: Callable[[Tensor], Any],
    logits_key: str | int | None = None,
    mean: PerChannel = None,
    std: PerChannel = None,
) -> nn.Module:
    """`model` itself where it is a module that needs nothing around it, otherwise `Wrapped`."""
    if isinstance(model, nn.Module) and logits_key is None and mean is None and std is None:
        return model
    return Wrapped(model, logits_key, mean, std)
