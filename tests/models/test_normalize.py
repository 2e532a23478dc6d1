"""Normalisation against arithmetic by hand, and every way of asking for the wrong one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustml.errors import RequestError
from robustml.models import Normalize
from robustml.models.normalize import normalization


@pytest.mark.parametrize("tail", [(), (5,), (2, 3), (2, 2, 2)])
def test_equals_arithmetic_channel_by_channel(tail: tuple[int, ...]) -> None:
    x = torch.full((4, 2, *tail), 0.5)
    out = Normalize([0.25, 0.75], [0.5, 0.125])(x)
    assert out.shape == x.shape
    assert torch.all(out[:, 0] == 0.5)  # (0.5 - 0.25) / 0.5
    assert torch.all(out[:, 1] == -2.0)  # (0.5 - 0.75) / 0.125


def test_buffers_are_saved_but_not_trained() -> None:
    layer = Normalize([0.5], [0.25])
    assert list(layer.parameters()) == []
    assert set(layer.state_dict()) == {"mean", "std"}
    assert layer.double()(torch.rand(1, 1, 2, 2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("x", [torch.rand(2, 3, 4, 4), torch.rand(1)], ids=["channels", "no channel axis"])
def test_refuses_inputs_of_other_channels(x: torch.Tensor) -> None:
    with pytest.raises(RequestError, match="for 1 channels"):
        Normalize([0.5], [0.5])(x)


@pytest.mark.parametrize(("mean", "std"), [([], []), ([0.5], [0.5, 0.5]), ([0.5], [0.0]), ([0.5], [float("nan")])])
def test_refuses_impossible_values(mean: list[float], std: list[float]) -> None:
    with pytest.raises(RequestError):
        Normalize(mean, std)


def test_layer_of_a_model() -> None:
    assert isinstance(normalization(3, None, None), nn.Identity)
    assert isinstance(normalization(1, [0.5], [0.5]), Normalize)
    with pytest.raises(RequestError, match="both mean and std"):
        normalization(1, [0.5], None)
    with pytest.raises(RequestError, match="each of the 3 channels; got 1"):
        normalization(3, [0.5], [0.5])
