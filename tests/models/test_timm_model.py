"""The timm wrapper: its normalisation, its hints, and its lazy import."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torchvision.transforms.functional import normalize

from robustml.errors import RequestError
from robustml.models import Normalize, timm_model

timm = pytest.importorskip("timm")


def test_defaults_to_the_models_own_normalisation() -> None:
    colour, grey = timm_model("resnet10t", 3, (3, 32, 32)), timm_model("resnet10t", 3, (1, 32, 32))
    assert isinstance(colour[0], Normalize)
    assert isinstance(grey[0], Normalize)
    torch.testing.assert_close(colour[0].mean, torch.tensor([0.485, 0.456, 0.406]))  # type: ignore[index]
    torch.testing.assert_close(colour[0].std, torch.tensor([0.229, 0.224, 0.225]))  # type: ignore[index]
    torch.testing.assert_close(grey[0].mean, torch.tensor([0.449]))  # type: ignore[index]
    torch.testing.assert_close(grey[0].std, torch.tensor([0.226]))  # type: ignore[index]


def test_equals_timm_on_normalised_images() -> None:
    torch.manual_seed(0)
    ours = timm_model("resnet10t", 3, (3, 32, 32)).eval()
    theirs = timm.create_model("resnet10t", num_classes=3).eval()
    theirs.load_state_dict(ours[1].state_dict())  # type: ignore[index]
    x = torch.rand(2, 3, 32, 32)
    normalised = normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(normalised))


def test_keyword_arguments_reach_timm() -> None:
    model = timm_model("vit_tiny_patch16_224", 3, (3, 32, 32), patch_size=8, depth=1)
    assert model[1].patch_embed.num_patches == 16  # type: ignore[index]


def test_nearest_names() -> None:
    with pytest.raises(RequestError, match=r"no model named 'resnet81'; did you mean '?.*resnet"):
        timm_model("resnet81", 3, (3, 32, 32))
    with pytest.raises(RequestError, match=r"see timm.list_models\(\)"):
        timm_model("@@@@", 3, (3, 32, 32))


def test_hint_when_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # any import of timm now fails
    room = importlib.reload(sys.modules["robustml.models.timm_model"])
    with pytest.raises(RequestError, match=r"pip install 'robustml-lightning\[timm\]'"):
        room.timm_model("resnet18", 3, (3, 32, 32))
