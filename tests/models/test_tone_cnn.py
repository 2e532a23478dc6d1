from __future__ import annotations

import torch
from torch import Tensor

from robustml.models import ToneCNN


def strided(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of 9 samples with stride 4, window by window, and ReLU."""
    padded = torch.zeros(len(x), x.shape[1], x.shape[2] + 8)
    padded[:, :, 4:-4] = x
    windows = [padded[:, :, start : start + 9] for start in range(0, x.shape[2], 4)]
    return torch.stack([(window[:, None] * weight).sum((2, 3)) + bias for window in windows], 2).clamp(min=0)


def test_tone_cnn_equals_a_convolution_by_hand() -> None:
    model = ToneCNN((2, 70), 3, mean=[0.5, 0.4], std=[0.2, 0.1], width=4).eval()
    weights = model.state_dict()
    x = torch.rand(3, 2, 70)
    out = (x - torch.tensor([[[0.5], [0.4]]])) / torch.tensor([[[0.2], [0.1]]])
    for layer in (0, 2, 4):
        out = strided(out, weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"])
    expected = out.mean(2) @ weights["classifier.weight"].T + weights["classifier.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-4)


def test_tone_cnn_takes_any_length_and_counts_its_parameters() -> None:
    model = ToneCNN()
    # (9 + 1)*16 + (9*16 + 1)*32 + (9*32 + 1)*64 + 65*6
    assert sum(parameter.numel() for parameter in model.parameters()) == 160 + 4_640 + 18_496 + 390
    for length in (1, 100, 4096):
        assert model(torch.rand(2, 1, length)).shape == (2, 6)
