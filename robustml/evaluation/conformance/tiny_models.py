"""Small models and images to try an attack on: through batch norm and dropout, of any shape and number of classes."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class TinyModel(NamedTuple):
    """A model in eval mode, images `x` (N, ...) in [0, 1] and labels `y` (N,), most of which the model gets right."""

    model: nn.Sequential
    x: Tensor
    y: Tensor


def trained_tiny_model() -> TinyModel:
    """A network that gets 9 of 10 of 180 digits right, enlarged to (1, 16, 16): attacks of images expect some room.

    Training takes a second, once a process; every call returns a model of its own.
    """
    return copy.deepcopy(_trained())


def untrained_tiny_model(shape: Sequence[int], num_classes: int, count: int = 8) -> TinyModel:
    """A random network, `count` images of noise of `shape` and the labels that the network gives them.

    The last of several images has another label: an attack must cope with an image that is wrong already.
    """
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(count, *shape, generator=generator) * 1.2 - 0.1).clamp_(0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = _network(shape, num_classes)
        model(torch.rand(64, *shape))  # gives batch norm running statistics of its own
    with torch.no_grad():
        y = model.eval()(x).argmax(1)
    if count > 1:
        y[-1] = (y[-1] + 1) % num_classes
    return TinyModel(model, x, y)


def _network(shape: Sequence[int], num_classes: int) -> nn.Sequential:
    if len(shape) == 3:
        channels, height, width = shape
        layers: list[nn.Module] = [nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
        features = 8 * math.ceil(height / 2) * math.ceil(width / 2)
    else:
        layers, features = [nn.Linear(math.prod(shape), 24), nn.BatchNorm1d(24), nn.ReLU()], 24
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(features, num_classes))


@functools.cache
def _trained() -> TinyModel:
    from robustml.data import Digits

    train, test = Digits().load("train"), Digits().load("test")
    x, y = _enlarged(train.x[:600]), train.y[:600]
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(3)
        model = _network((1, 16, 16), 10)
        # By hand: the first torch optimizer of a process costs seconds of imports.
        for _ in range(60):
            loss = functional.cross_entropy(model(x), y)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.data -= 0.5 * gradient
    return TinyModel(model.eval(), _enlarged(test.x[:180]), test.y[:180])


def _enlarged(x: Tensor) -> Tensor:
    """Images (N, C, H, W) in 0..255 to (N, C, 2H, 2W) in [0, 1]."""
    return x.float().div(255).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
