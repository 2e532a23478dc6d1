"""He's normal initialisation, N(0, sqrt(2/n)), in the form that fast-adversarial-training papers use.

He, Zhang, Ren and Sun, "Delving Deep into Rectifiers" (ICCV 2015, arXiv 1502.01852), as applied by Andriushchenko and
Flammarion (NeurIPS 2020): n counts a convolution's outputs (kernel area x output channels) but a linear layer's inputs.
"""

from __future__ import annotations

from torch import nn

__all__ = ["he_normal_"]


def he_normal_(model: nn.Module) -> None:
    """Redraw, in place, every `Conv2d` and `Linear` weight of `model` and zero their biases; leave other layers."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
