"""The convolutions that a model runs, in their order, and the batch norm that each one feeds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError, nearest
from robustml.evaluation.batches import device_of
from robustml.modes import evaluating
from robustml.poisoning.pixels import in_unit_range


class Convolution(NamedTuple):
    """A layer of channels: a convolution, or a linear layer that was named."""

    name: str
    layer: _ConvNd | nn.Linear
    norm: _BatchNorm | None
    size: tuple[int, ...] = ()
    """Of its output: height and width."""

    @property
    def last(self) -> nn.Module:
        """Whose output the channels are read from."""
        return self.norm or self.layer

    def silence(self, channels: Tensor) -> None:
        """Make the outputs of the channels (K,) 0 for every input."""
        with torch.no_grad():
            for module in (self.layer, self.norm):
                for parameter in [] if module is None else module.parameters(recurse=False):
                    parameter[channels] = 0
            if self.norm is not None and not self.norm.affine:
                raise RequestError(f"the batch norm behind {self.name} has no weights: name another layer")


@torch.no_grad()
def convolutions_of(model: nn.Module, x: Tensor) -> list[Convolution]:
    """Those that run on inputs (N, ...), one of which is looked at, in the order in which they run."""
    norms: dict[int, _BatchNorm] = {}
    ran: list[tuple[str, _ConvNd, Tensor]] = []

    def made(name: str, layer: nn.Module, output: Tensor) -> None:
        ran.append((name, layer, output))  # type: ignore[arg-type]  # kept, so that no other tensor gets its id

    def given(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        norms.setdefault(id(inputs[0]), norm)  # type: ignore[arg-type]

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
            hooks.append(module.register_forward_hook(lambda layer, _, output, name=name: made(name, layer, output)))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(given))
    try:
        with evaluating(model):
            logits_of(model, in_unit_range(x[:1]).to(device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return [Convolution(name, layer, norms.get(id(output)), tuple(output.shape[2:])) for name, layer, output in ran]


def layer_to_prune(model: nn.Module, x: Tensor, layer: str | None) -> Convolution:
    """The last convolution, or the convolution or linear layer of that name.

    Raises:
        RequestError: there is none.
    """
    found = convolutions_of(model, x)
    if layer is None:
        if not found:
            raise RequestError("the model has no convolution to prune: name a linear layer, layer=<name>")
        return found[-1]
    for each in found:
        if each.name == layer:
            return each
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if layer in linear:
        return Convolution(layer, linear[layer], None)
    raise RequestError(
        f"layer={layer!r} is no convolution or linear layer of the model: "
        f"{nearest(layer, [*linear, *(each.name for each in found)])}"
    )
