"""Every network, one row each: logits of the right shape for any classes and images, gradients, sizes, round trips."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from robustml import models
from robustml.errors import RequestError
from robustml.models.network import flat_features

FOREIGN = ("callable", "custom")  # for models of others; tests/models/test_foreign.py
CONFIGS = sorted(
    path for path in (Path(__file__).parents[2] / "configs" / "model").glob("*.yaml") if path.stem not in FOREIGN
)


@dataclass(frozen=True)
class Row:
    """A network, cheap enough to run; a side that it takes; a shape too small, if any is; whether of waveforms."""

    name: str
    build: Callable[..., nn.Module]
    side: int
    too_small: tuple[int, int, int] | None = None
    waveforms: bool = False

    def shape(self, channels: int, taller: bool = False) -> tuple[int, ...]:
        # taller than wide: a network that mixed the two up would not fit its first linear layer
        return (channels, self.side) if self.waveforms else (channels, self.side * (1 + taller), self.side)


ROWS = [
    Row("mlp", models.MLP, 5),
    Row("linear", partial(models.MLP, hidden=()), 5),
    Row("mlp_dropout", partial(models.MLP, hidden=(64,), dropout=0.5), 5),
    Row("wong_cnn", models.WongCNN, 8, (1, 3, 8)),
    Row("madry_cnn", models.MadryCNN, 8),
    Row("trades_small_cnn", models.TradesSmallCNN, 16, (1, 15, 28)),
    Row("badnets_cnn", models.BadNetsCNN, 16, (1, 28, 15)),
    Row("batch_norm_cnn", models.BatchNormCNN, 8, (1, 8, 7)),
    Row("single_layer_cnn", models.SingleLayerCNN, 8),
    Row("digits_cnn", models.DigitsCNN, 8, (1, 8, 1)),
    Row("resnet18", models.ResNet18, 8),
    Row("preact_resnet18", models.PreActResNet18, 8),
    Row("preact_rice", partial(models.PreActResNet18, shortcut="activated"), 8),
    Row("preact_andriushchenko", partial(models.PreActResNet18, final_norm=False, init="he"), 8),
    Row("wide_resnet", partial(models.WideResNet, depth=10, width=2, dropout=0.1, activation="silu"), 8),
    Row("tone_cnn", models.ToneCNN, 40, waveforms=True),
    Row("timm_resnet", partial(models.timm_model, "resnet10t"), 32),
    Row("timm_transformer", partial(models.timm_model, "vit_tiny_patch16_224", depth=1), 32),
]
EACH = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@EACH
def test_logits_of_any_classes_and_channels_alike_alone_and_in_a_batch(row: Row) -> None:
    for channels, num_classes in ((1, 2), (3, 10)):
        shape = row.shape(channels, taller=True)
        model, x = row.build(shape=shape, num_classes=num_classes).eval(), torch.rand(2, *shape)
        with torch.no_grad():
            logits = model(x)
            torch.testing.assert_close(logits[1:], model(x[1:]), atol=1e-4, rtol=1e-4)
        assert logits.shape == (2, num_classes)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


@EACH
def test_gradient_reaches_the_input_and_every_parameter(row: Row) -> None:
    model = row.build(shape=row.shape(3), num_classes=3).train()
    # TRADES starts its last layer at zero, and passes no gradient until that has moved
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    x = torch.rand(4, *row.shape(3), requires_grad=True)
    model(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad.flatten(1).abs().amax(1) > 0).all()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@EACH
def test_normalisation_is_the_first_layer_and_travels_with_the_weights(row: Row) -> None:
    build = partial(row.build, shape=row.shape(3), num_classes=3)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    plain, normalised = build(mean=[0.0] * 3, std=[1.0] * 3).eval(), build(mean=mean.tolist(), std=std.tolist()).eval()
    weights = {name: value for name, value in plain.state_dict().items() if not name.startswith("normalize.")}
    normalised.load_state_dict(weights, strict=False)
    x = torch.rand(2, *row.shape(3))
    by_hand = torch.stack([(x[:, channel] - mean[channel]) / std[channel] for channel in range(3)], dim=1)
    with torch.no_grad():
        expected = plain(by_hand)
        torch.testing.assert_close(normalised(x), expected)
        plain.load_state_dict(normalised.state_dict())
        torch.testing.assert_close(plain(x), expected)


@EACH
def test_impossible_arguments(row: Row) -> None:
    shape = row.shape(1)
    with pytest.raises(RequestError, match="num_classes"):
        row.build(shape=shape, num_classes=1)
    with pytest.raises(RequestError, match="each of the 1 channels; got 3"):
        row.build(shape=shape, num_classes=2, mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(RequestError, match="at least 1"):
        row.build(shape=row.shape(0), num_classes=2)
    if row.too_small is not None:
        with pytest.raises(RequestError, match="too small"):
            row.build(shape=row.too_small, num_classes=2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(models.WideResNet, depth=30), r"6n \+ 4"),
        (partial(models.WideResNet, depth=4), r"6n \+ 4"),
        (partial(models.WideResNet, width=0), "width"),
        (partial(models.WideResNet, depth=10, width=1, activation="swish"), "activation='swish' is unknown"),
        (partial(models.PreActResNet18, shortcut="inputs"), "did you mean 'input'"),
        (partial(models.PreActResNet18, init="hee"), "did you mean 'he'"),
        (partial(models.SingleLayerCNN, filters=0), "filters"),
        (partial(models.DigitsCNN, width=0), "width"),
        (partial(models.BatchNormCNN, width=0), "width"),
        (partial(models.ToneCNN, width=0), "width"),
        (partial(models.ToneCNN, (1, 8, 8)), "channels, samples"),
        (partial(models.MLP, (4,), 2, hidden=(0,)), "hidden"),
        (partial(models.MLP, (), 2), "shape"),
        (partial(models.ResNet18, shape=(32, 32)), "channels, height, width"),
    ],
)
def test_impossible_options(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build()


def test_mlp_takes_feature_vectors() -> None:
    model = models.MLP((3,), 2, mean=[1.0, 2.0, 3.0], std=[1.0, 2.0, 4.0])
    assert model(torch.rand(5, 3)).shape == (5, 2)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_instantiates_and_gives_every_argument_its_default(path: Path) -> None:
    shape = [3, 32] if path.stem == "tone_cnn" else [3, 32, 32]
    config = OmegaConf.create({"data": {"shape": shape, "num_classes": 7}, "model": OmegaConf.load(path)})
    with torch.device("meta"):  # WRN-28-10 in no time
        assert instantiate(config.model)(torch.zeros(2, *shape)).shape == (2, 7)
    given = OmegaConf.to_container(config.model, resolve=True)
    target = getattr(models, given.pop("_target_").removeprefix("robustml.models."))
    parameters = inspect.signature(target).parameters.values()
    assert set(given) == {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    for parameter in parameters:
        if parameter.name in given and parameter.name not in ("shape", "num_classes", "name"):
            value = given[parameter.name]
            assert (tuple(value) if isinstance(value, list) else value) == parameter.default, parameter.name


def test_every_network_has_a_config() -> None:
    targets = {OmegaConf.load(path)._target_.rpartition(".")[2] for path in CONFIGS}
    around_models = {"Normalize", "SmoothedModel", "Wrapped", "as_module", "load_checkpoint"}
    assert targets == set(models.__all__) - around_models


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
def test_flat_features_are_as_many_as_the_layers_return(padding: int, ceil_mode: bool) -> None:
    for kernel, stride, height, width in product((2, 3), (1, 2, 3), (2, 5), (4, 7)):
        pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
        features = nn.Sequential(nn.Conv2d(1, 2, 2, padding=1), nn.ReLU(), pool, nn.AvgPool2d(1), nn.Flatten())
        returned = features(torch.zeros(1, 1, height, width)).numel()
        assert flat_features(features, (1, height, width)) == returned
