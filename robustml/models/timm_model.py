"""Any classifier of the timm library, with its normalisation as a layer.

Wightman, "PyTorch Image Models" (github.com/huggingface/pytorch-image-models); the optional extra `timm`.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from robustml.errors import RequestError
from robustml.models.network import check_num_classes, image_shape
from robustml.models.normalize import PerChannel, normalization


def timm_model(
    name: str,
    num_classes: int,
    shape: Sequence[int],
    pretrained: bool = False,
    mean: PerChannel = None,
    std: PerChannel = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a timm model that takes images (N, C, H, W) in [0, 1] and returns logits (N, num_classes).

    A network built for one image size (a vision transformer) is told `img_size=(H, W)`; any other is left to cope, and
    most halve the image five times: prefer 64 x 64 and more.

    Args:
        name: as in `timm.list_models()`, with or without a ``.tag``, or ``hf-hub:owner/name``.
        num_classes: at least 2; the last layer is replaced where it differs from the pretrained one.
        shape: (C, H, W) of the images.
        pretrained: load timm's weights, which may download them.
        mean: normalisation, one value a channel; None for the model's own (its `default_cfg`), and with channels
            other than that has, for its average in each of them.
        std: see `mean`.
        **kwargs: to `timm.create_model`, such as `drop_path_rate`.

    Returns:
        A `Sequential` of `normalize` and `network`.

    Raises:
        RequestError: timm is not installed, knows no such model, or the shape or the normalisation does not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise RequestError("this model needs timm: pip install 'robustml-lightning[timm]'") from error

    channels, height, width = image_shape(shape)
    if ":" not in name:
        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=3)
            hint = "did you mean " + " or ".join(map(repr, close)) + "?" if close else "see timm.list_models()"
            raise RequestError(f"timm has no model named {name!r}; {hint}")
        defaults = timm.get_pretrained_cfg(name, allow_unregistered=True)
        if defaults is not None and defaults.fixed_input_size:
            kwargs = {"img_size": (height, width)} | kwargs
    network = timm.create_model(
        name, pretrained=pretrained, num_classes=check_num_classes(num_classes), in_chans=channels, **kwargs
    )
    own = cast(dict[str, Any], network.default_cfg)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["normalize"] = normalization(
        channels,
        _for_channels(own["mean"], channels) if mean is None else mean,
        _for_channels(own["std"], channels) if std is None else std,
    )
    layers["network"] = network
    return nn.Sequential(layers)


def _for_channels(values: Sequence[float], channels: int) -> Sequence[float]:
    if len(values) == channels:
        return values
    return (sum(values) / len(values),) * channels
