"""The networks are the papers': parameter counts known elsewhere, initial weights, and independent forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from robustml.models import (
    BadNetsCNN,
    MadryCNN,
    PreActResNet18,
    ResNet18,
    SingleLayerCNN,
    TradesSmallCNN,
    WideResNet,
    WongCNN,
)

Weights = dict[str, Tensor]


@pytest.mark.parametrize(
    ("build", "count"),
    [
        # (1*4*4 + 1)*16 + (16*4*4 + 1)*32 + (32*7*7 + 1)*100 + 101*10
        (WongCNN, 272 + 8_224 + 156_900 + 1_010),
        # (1*25 + 1)*32 + (32*25 + 1)*64 + (64*7*7 + 1)*1024 + 1025*10 = 832 + 51,264 + 3,212,288 + 10,250
        (MadryCNN, 3_274_634),
        # (9 + 1)*32 + (288 + 1)*32 + (288 + 1)*64 + (576 + 1)*64 + 1025*200 + 201*200 + 201*10
        (TradesSmallCNN, 312_202),
        # (25 + 1)*16 + (16*25 + 1)*32 + 513*512 + 513*10
        (BadNetsCNN, 416 + 12_832 + 262_656 + 5_130),
        # (3*9 + 1)*4 + 4097*10
        (SingleLayerCNN, 112 + 40_970),
        # kuangliu/pytorch-cifar's well-known figure
        (ResNet18, 11_173_962),
        # kuangliu/pytorch-cifar's figure, whose network has no final norm: stem 1,728; stages 147,968 + 525,184 +
        # 2,098,944 + 8,392,192; linear 5,130. (Stage 2, say: norms 2*(64 + 128 + 128 + 128), convolutions
        # 9*(64*128 + 3*128*128), shortcut 64*128.)
        (partial(PreActResNet18, final_norm=False), 11_171_146),
        # Wong's and Rice's final batch norm adds 2*512
        (PreActResNet18, 11_172_170),
        # the paper's 36.5M: stem 432; stages 1,640,672 + 6,968,000 + 27,862,400; norm 1,280; linear 6,410
        (WideResNet, 36_479_194),
        # Rice 2020's: 432; 2,102,112 + 8,812,480 + 35,237,760; 1,280; 6,410. TRADES' adds an unused sub_block1
        (partial(WideResNet, depth=34), 46_160_474),
    ],
)
def test_parameter_count(build: Callable[[], nn.Module], count: int) -> None:
    with torch.device("meta"):
        model = build()
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def _scramble(model: nn.Module) -> Weights:
    # fresh batch norms are the identity in eval mode, and would hide one that is missing or misplaced
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return model.state_dict()


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    def each(key: str) -> Tensor:
        return weights[f"{name}.{key}"][None, :, None, None]

    return (x - each("running_mean")) / (each("running_var") + 1e-5).sqrt() * each("weight") + each("bias")


@pytest.mark.parametrize("train", [False, True])
def test_resnet18_equals_torchvisions(train: bool) -> None:
    ours = ResNet18(num_classes=7)
    theirs = torchvision.models.resnet18(num_classes=7)
    theirs.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    weights = _scramble(ours)
    theirs.load_state_dict(
        {name.replace("shortcut", "downsample").replace("linear", "fc"): value for name, value in weights.items()}
    )
    x = torch.rand(3, 3, 20, 12)
    with torch.no_grad():
        torch.testing.assert_close(ours.train(train)(x), theirs.train(train)(x))


@pytest.mark.parametrize("final_norm", [True, False])
@pytest.mark.parametrize("shortcut", ["input", "activated"])
def test_preact_resnet18_equals_a_functional_forward(final_norm: bool, shortcut: str) -> None:
    model = PreActResNet18(num_classes=7, final_norm=final_norm, shortcut=shortcut).eval()  # type: ignore[arg-type]
    weights = _scramble(model)
    x = torch.rand(2, 3, 16, 16)
    out = F.conv2d(x, weights["conv1.weight"], padding=1)
    for layer, unit in [(layer, unit) for layer in (1, 2, 3, 4) for unit in (0, 1)]:
        block = f"layer{layer}.{unit}"
        stride = 2 if unit == 0 and layer > 1 else 1
        activated = _norm(weights, f"{block}.bn1", out).clamp(min=0)
        if unit == 0 and layer > 1:
            source = out if shortcut == "input" else activated
            skip = F.conv2d(source, weights[f"{block}.shortcut.0.weight"], stride=2)
        else:
            skip = out
        inner = F.conv2d(activated, weights[f"{block}.conv1.weight"], stride=stride, padding=1)
        inner = _norm(weights, f"{block}.bn2", inner).clamp(min=0)
        out = skip + F.conv2d(inner, weights[f"{block}.conv2.weight"], padding=1)
    if final_norm:
        out = _norm(weights, "bn", out).clamp(min=0)
    expected = out.mean((2, 3)) @ weights["linear.weight"].T + weights["linear.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("silu", lambda x: x / (1 + (-x).exp())),
        ("leaky_relu", lambda x: torch.where(x > 0, x, 0.1 * x)),
    ],
)
def test_wide_resnet_equals_a_functional_forward(activation: str, formula: Callable[[Tensor], Tensor]) -> None:
    model = WideResNet(num_classes=7, depth=16, width=2, dropout=0.3, activation=activation).eval()  # type: ignore[arg-type]
    weights = _scramble(model)
    x = torch.rand(2, 3, 12, 8)
    out = F.conv2d(x, weights["conv1.weight"], padding=1)
    for stage, unit in [(stage, unit) for stage in (1, 2, 3) for unit in (0, 1)]:
        block = f"block{stage}.layer.{unit}"
        stride = 2 if unit == 0 and stage > 1 else 1
        activated = formula(_norm(weights, f"{block}.bn1", out))
        inner = F.conv2d(activated, weights[f"{block}.conv1.weight"], stride=stride, padding=1)
        inner = F.conv2d(formula(_norm(weights, f"{block}.bn2", inner)), weights[f"{block}.conv2.weight"], padding=1)
        if unit == 0:
            out = F.conv2d(activated, weights[f"{block}.convShortcut.weight"], stride=stride)
        out = out + inner
    expected = formula(_norm(weights, "bn1", out)).mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-4)


def test_wide_resnet_drops_out_in_training_only() -> None:
    model = WideResNet(shape=(1, 8, 8), depth=10, width=1, dropout=0.5)
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        assert not torch.equal(model.train()(x), model(x))
        assert torch.equal(model.eval()(x), model(x))


def _deviation(weight: Tensor) -> float:
    return weight.detach().std().item()


def test_initial_weights() -> None:
    torch.manual_seed(0)
    madry = MadryCNN().state_dict()
    for name, value in madry.items():
        if name.endswith("bias"):
            assert torch.all(value == 0.1), name
        else:
            assert value.abs().max() <= 0.2, name
    # a standard normal truncated at two deviations has a deviation of 0.8796
    assert _deviation(madry["classifier.0.weight"]) == pytest.approx(0.08796, rel=0.01)

    trades = TradesSmallCNN()
    assert trades(torch.rand(2, 1, 28, 28)).abs().max() == 0
    weights = trades.state_dict()
    assert _deviation(weights["feature_extractor.conv4.weight"]) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.03)
    assert weights["feature_extractor.conv4.bias"].abs().max() == 0

    single = SingleLayerCNN(filters=64).state_dict()
    assert _deviation(single["layers.0.weight"]) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.06)
    assert _deviation(single["layers.3.weight"]) == pytest.approx(math.sqrt(2 / (64 * 1024)), rel=0.03)
    assert single["layers.0.bias"].abs().max() == single["layers.3.bias"].abs().max() == 0

    he = PreActResNet18(init="he").state_dict()
    assert _deviation(he["layer3.0.conv1.weight"]) == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.03)
    assert he["linear.bias"].abs().max() == 0

    wide = WideResNet(depth=10, width=4).state_dict()
    assert _deviation(wide["block2.layer.0.conv1.weight"]) == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.03)
    assert wide["fc.bias"].abs().max() == 0


def test_names_of_published_checkpoints() -> None:
    with torch.device("meta"):
        assert {"conv1.weight", "layer2.0.shortcut.0.weight", "layer4.1.bn2.running_var", "bn.bias"} <= set(
            PreActResNet18().state_dict()
        )
        assert {"block1.layer.0.convShortcut.weight", "block3.layer.4.bn2.weight", "bn1.weight", "fc.bias"} <= set(
            WideResNet(depth=34).state_dict()
        )
        assert {"feature_extractor.conv4.bias", "classifier.fc3.weight"} <= set(TradesSmallCNN().state_dict())
