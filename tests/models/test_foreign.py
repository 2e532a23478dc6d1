"""Models and checkpoints of others: the same weights must give the same logits, and nothing loads in part.

The foreign networks are written here from their papers, under the parameter names of the public code.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from robustml.errors import RequestError
from robustml.models import MLP, PreActResNet18, ResNet18, WideResNet, Wrapped, as_module, load_checkpoint


def conv(inside: int, outside: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, size, stride, size // 2, bias=False)


def children(**modules: nn.Module) -> nn.Module:
    """A module that only holds others."""
    module = nn.Module()
    for name, child in modules.items():
        module.add_module(name, child)
    return module


class TradesWideResNet(nn.Module):
    """WRN-10-1 as TRADES names it, its unused `sub_block1` included."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 16)
        widths = (16, 16, 32, 64)
        stages = [
            children(
                layer=nn.Sequential(
                    children(
                        bn1=nn.BatchNorm2d(a),
                        conv1=conv(a, b, stride=1 if a == b else 2),
                        bn2=nn.BatchNorm2d(b),
                        conv2=conv(b, b),
                        **({} if a == b else {"convShortcut": conv(a, b, 1, 2)}),
                    )
                )
            )
            for a, b in pairwise(widths)
        ]
        self.block1, self.block2, self.block3 = stages
        self.sub_block1 = copy.deepcopy(stages[0])
        self.bn1 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in (self.block1, self.block2, self.block3):
            block = stage.layer[0]
            pre = block.bn1(x).relu()
            out = block.conv2(block.bn2(block.conv1(pre)).relu())
            x = out + (block.convShortcut(pre) if hasattr(block, "convShortcut") else x)
        return self.fc(functional.adaptive_avg_pool2d(self.bn1(x).relu(), 1).flatten(1))


class Residual(nn.Module):
    """An 18-layer residual network for small images, post- or pre-activation, its shortcuts and last layer named so."""

    def __init__(self, pre: bool, shortcut: str, last: str) -> None:
        super().__init__()
        self.pre, self.shortcut, self.last = pre, shortcut, last
        self.conv1 = conv(3, 64)
        self.add_module("bn" if pre else "bn1", nn.BatchNorm2d(512 if pre else 64))
        for stage, (a, b) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), start=1):
            blocks = []
            for inside in (a, b):
                stride = 1 if inside == b else 2
                block = children(
                    conv1=conv(inside, b, stride=stride),
                    bn1=nn.BatchNorm2d(inside if pre else b),
                    conv2=conv(b, b),
                    bn2=nn.BatchNorm2d(b),
                )
                if inside != b:
                    layers = [conv(inside, b, 1, stride), *([] if pre else [nn.BatchNorm2d(b)])]
                    block.add_module(shortcut, nn.Sequential(*layers))
                blocks.append(block)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.add_module(last, nn.Linear(512, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if not self.pre:
            x = self.bn1(x).relu()
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                side = getattr(block, self.shortcut, nn.Identity())(x)
                if self.pre:
                    x = side + block.conv2(block.bn2(block.conv1(block.bn1(x).relu())).relu())
                else:
                    x = (side + block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))).relu()
        if self.pre:
            x = self.bn(x).relu()
        return getattr(self, self.last)(x.mean(dim=(2, 3)))


def scrambled(model: nn.Module, seed: int) -> nn.Module:
    """The model in eval mode, with batch statistics and biases that are not the defaults."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            spread = torch.rand(value.shape, generator=generator)
            value.copy_(spread + 0.5 if key.endswith(("weight", "running_var")) else spread - 0.5)
    return model.eval()


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "TRADES": (TradesWideResNet, lambda: WideResNet(depth=10, width=1)),
    "preact": (lambda: Residual(True, "shortcut", "linear"), PreActResNet18),
    "resnet": (lambda: Residual(False, "shortcut", "linear"), ResNet18),
    "torchvision": (lambda: Residual(False, "downsample", "fc"), ResNet18),
}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_weights_give_the_same_logits(name: str, tmp_path: Path) -> None:
    theirs, ours = (make() for make in PAIRS[name])
    scrambled(theirs, 1)
    weights = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"epoch": 7, "state_dict": weights}, tmp_path / "net.pt")
    with torch.no_grad():
        assert not torch.allclose(ours.eval()(IMAGES), theirs(IMAGES), atol=1e-2)
        load_checkpoint(ours, tmp_path / "net.pt")
        torch.testing.assert_close(ours(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-5)


def small(mean: list[float] | None = None, std: list[float] | None = None) -> nn.Module:
    return MLP(shape=(3, 4, 4), num_classes=5, hidden=[6], mean=mean, std=std).eval()


def loaded(content: Any, path: Path, model: nn.Module) -> nn.Module:
    torch.save(content, path)
    load_checkpoint(model, path)
    return model


NESTED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda weights: weights,
    "state_dict": lambda weights: {"state_dict": weights, "best": torch.tensor(3.0), "optimizer": {"lr": 1}},
    "model_state_dict": lambda weights: {"model_state_dict": weights},
    "model": lambda weights: {"model": weights, "ema": {}},
    "net": lambda weights: {"net": weights, "acc": 0.9},
    "ema": lambda weights: {"ema": weights},
    "twice": lambda weights: {"model": {"state_dict": weights}},
}


@pytest.mark.parametrize("nesting", NESTED)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.module.", "0."])
def test_usual_nestings_and_prefixes(nesting: str, prefix: str, tmp_path: Path) -> None:
    theirs = scrambled(small(), 2)
    weights = {prefix + key: value for key, value in theirs.state_dict().items()}
    ours = loaded(NESTED[nesting](weights), tmp_path / "net.pth", small())
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())


def test_safetensors(tmp_path: Path) -> None:
    theirs, ours = small(), small()
    save_file({f"model.{key}": value for key, value in theirs.state_dict().items()}, tmp_path / "net.safetensors")
    load_checkpoint(ours, tmp_path / "net.safetensors")
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in theirs.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "network"),
    [("0.mean 0.std", "1."), ("mu sigma", ""), ("normalizer.new_mean normalizer.new_std", "model.")],
)
def test_a_normalisation_in_the_checkpoint_is_taken_over_or_asked_for(layer: str, network: str, tmp_path: Path) -> None:
    mean, std = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]
    theirs = small(mean, std)
    weights = {network + key: value for key, value in theirs.state_dict().items() if "normalize" not in key}
    weights |= dict(zip(layer.split(), (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std)), strict=True))
    ours = loaded(weights, tmp_path / "net.pt", small([0.5] * 3, [0.5] * 3))
    x = IMAGES[:, :, :4, :4]
    torch.testing.assert_close(ours(x), theirs(x))
    with pytest.raises(RequestError, match=re.escape("model.mean=[0.4914,0.4822,0.4465] model.std=[0.2471,")):
        loaded(weights, tmp_path / "net.pt", small())


def test_a_normalisation_by_config_stays_where_the_checkpoint_holds_none(tmp_path: Path) -> None:
    ours = loaded(small().state_dict(), tmp_path / "net.pt", small([0.1] * 3, [0.2] * 3))
    torch.testing.assert_close(ours.normalize.mean, torch.tensor([0.1] * 3))


class Standardised(nn.Module):
    """A network whose own buffers are called like a normalisation in front of it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.head = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x - self.mean).flatten(1))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_buffers_of_the_network_are_no_normalisation(prefix: str, tmp_path: Path) -> None:
    theirs = Standardised()
    theirs.mean += 0.25
    weights = {prefix + key: value for key, value in theirs.state_dict().items()}
    x = IMAGES[:, :, :4, :4]
    assert torch.equal(loaded(weights, tmp_path / "net.pt", Standardised())(x), theirs(x))


def test_a_wrapped_model_takes_a_normalisation_too(tmp_path: Path) -> None:
    theirs = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    weights = {f"1.{key}": value for key, value in theirs.state_dict().items()}
    weights |= {"0.mean": torch.tensor([0.1, 0.2, 0.3]), "0.std": torch.full((3,), 0.5)}
    inner = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    ours = loaded(weights, tmp_path / "net.pt", as_module(inner, mean=[0.0] * 3, std=[1.0] * 3))
    x = IMAGES[:, :, :4, :4]
    torch.testing.assert_close(ours(x), theirs((x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5))
    with pytest.raises(RequestError, match=r"function\.1\.weight is missing|1\.weight is \("):
        loaded({"conv.weight": torch.zeros(1)}, tmp_path / "net.pt", ours)


def test_old_batch_norm_without_a_counter(tmp_path: Path) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 5)).eval()

    theirs = scrambled(net(), 4)
    weights = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    ours = loaded(weights, tmp_path / "net.pt", net())
    x = IMAGES[:, :, :4, :4]
    assert torch.equal(ours(x), theirs(x))


def test_another_architecture_names_the_first_missing_weight(tmp_path: Path) -> None:
    ours = WideResNet(depth=10, width=1)
    before = copy.deepcopy(ours.state_dict())
    torch.save(TradesWideResNet().state_dict(), tmp_path / "net.pt")
    with pytest.raises(RequestError, match=r"block1\.layer\.1\.bn1\.weight is missing \(and \d+ more"):
        load_checkpoint(WideResNet(depth=16, width=1), tmp_path / "net.pt")
    with pytest.raises(RequestError, match=r"fc\.weight is \(10, 64\), expected \(100, 64\) \(and 1 more"):
        load_checkpoint(WideResNet(depth=10, width=1, num_classes=100), tmp_path / "net.pt")
    weights = TradesWideResNet().state_dict()
    del weights["fc.bias"]
    with pytest.raises(RequestError, match=r"fc\.bias is missing"):
        loaded({"state_dict": weights}, tmp_path / "net.pt", ours)
    with pytest.raises(RequestError, match=r"extra\.weight is extra"):
        loaded(TradesWideResNet().state_dict() | {"extra.weight": torch.zeros(1)}, tmp_path / "net.pt", ours)
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items()), "nothing loads in part"


def test_deepminds_wide_resnet_is_refused_by_name(tmp_path: Path) -> None:
    weights = {"module.init_conv.weight": torch.zeros(16, 3, 3, 3), "module.logits.weight": torch.zeros(10, 64)}
    with pytest.raises(RequestError, match="DeepMind"):
        loaded(weights, tmp_path / "net.pt", WideResNet(depth=10, width=1))


class Mischief:
    """What a pickle can do when it is loaded freely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_files_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with pytest.raises(RequestError, match=r"there is no checkpoint .*net\.pt"):
        load_checkpoint(small(), path)
    torch.save({"state_dict": Mischief(tmp_path / "owned")}, path)
    with pytest.raises(RequestError, match=r"could run code: it would call builtins\.getattr\(\.\.\., 'touch'\)"):
        load_checkpoint(small(), path)
    assert not (tmp_path / "owned").exists()
    torch.save(small(), path)
    with pytest.raises(RequestError, match=r"it would call robustml\.models\.mlp\.MLP"):
        load_checkpoint(small(), path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RequestError, match=r"net\.pt"):
        load_checkpoint(small(), path)
    (tmp_path / "net.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(RequestError, match=r"net\.safetensors cannot be read"):
        load_checkpoint(small(), tmp_path / "net.safetensors")
    for content, said in (({"epoch": 3, "lr": 0.1}, "got epoch, lr"), ([1, 2], "a list"), ({}, "nothing")):
        with pytest.raises(RequestError, match=said):
            loaded(content, path, small())


def test_a_module_that_needs_nothing_stays_itself() -> None:
    model = small()
    assert as_module(model) is model
    assert isinstance(as_module(lambda x: x.flatten(1)), Wrapped)


@pytest.mark.parametrize(
    ("pack", "key"),
    [
        (lambda logits: logits, None),
        (lambda logits: {"features": 2 * logits, "logits": logits}, "logits"),
        (lambda logits: (logits, 2 * logits), 0),
        (lambda logits: [2 * logits, logits], 1),
    ],
)
def test_logits_are_picked_out_and_carry_a_gradient(pack: Callable[[Tensor], Any], key: str | int | None) -> None:
    model = Wrapped(lambda x: pack(x.flatten(1)[:, :4] ** 2), key, mean=[0.5] * 3, std=[0.25] * 3)
    x = IMAGES.clone().requires_grad_()
    logits = model(x)
    torch.testing.assert_close(logits, (((IMAGES - 0.5) / 0.25) ** 2).flatten(1)[:, :4])
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert (gradient != 0).sum() == 2 * 4


def test_a_wrapped_module_has_its_parameters_and_its_mode() -> None:
    inner = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(48, 5))
    model = as_module(inner, logits_key="logits").eval()
    assert not inner[1].training
    assert [*model.parameters()] == [*inner.parameters()]


@pytest.mark.parametrize(
    ("function", "key", "said"),
    [
        (lambda x: {"a": x, "b": x}, None, "a, b"),
        (lambda x: {"a": x}, "logits", "logits_key=logits"),
        (lambda x: (x, x), 2, "0, 1"),
        (lambda _: 3.0, None, "float"),
    ],
)
def test_outputs_without_the_key_are_refused(function: Callable[[Tensor], Any], key: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Wrapped(function, key)(IMAGES)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(RequestError, match="int"):
        Wrapped(3)
