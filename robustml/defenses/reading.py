"""What a defense reads of a model: logits, and the features of a layer that it names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.data import record_digests
from robustml.errors import RequestError, nearest
from robustml.evaluation.batches import device_of
from robustml.modes import evaluating
from robustml.poisoning.pixels import in_unit_range
from robustml.types import Labelled


@torch.no_grad()
def read_logits(model: nn.Module, x: Tensor, batch_size: int = 500) -> Tensor:
    """The logits (N, C) of inputs (N, ...), uint8 images or in [0, 1]: float32, on the CPU, the model in eval mode."""
    return _in_batches(model, x, batch_size, lambda part: logits_of(model, part))


@torch.no_grad()
def read_features(model: nn.Module, x: Tensor, layer: str | None = None, batch_size: int = 500) -> Tensor:
    """The features (N, D) of inputs (N, ...): what the layer gives, flattened; float32, on the CPU.

    Args:
        model: run in eval mode, handed back as found.
        x: uint8 images, or anything in [0, 1].
        layer: the name of a submodule, as `model.named_modules()` has it; None is what the last linear layer gets,
            which `feature_layer` names.
        batch_size: of the passes.

    Raises:
        RequestError: no such layer, or it gives no tensor with a row an input.
    """
    before = layer is None
    module = dict(model.named_modules())[feature_layer(model, x, layer)]
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...], made: object = None) -> None:
        seen.append(given[0] if before else made)  # type: ignore[arg-type]

    hook = module.register_forward_pre_hook(keep) if before else module.register_forward_hook(keep)

    def features(part: Tensor) -> Tensor:
        seen.clear()
        model(part)
        if len(seen) != 1 or not isinstance(seen[0], Tensor) or len(seen[0]) != len(part):
            raise RequestError(f"layer={layer!r} does not give one row of features an input: name another")
        return seen[0].flatten(1).float()

    try:
        return _in_batches(model, x, batch_size, features)
    finally:
        hook.remove()


@torch.no_grad()
def read_maps(model: nn.Module, x: Tensor, layer: str | None = None) -> tuple[Tensor, str]:
    """The feature maps (N, C, P) of inputs (N, ...), P positions each, and the name of the layer that they are of.

    Args:
        model: run in eval mode, handed back as found.
        x: uint8 images, or anything in [0, 1].
        layer: the name of a submodule; None is the last one that gives maps of more than one position, where a mark in
            a picture is still a place. Where none does (tables), it is what the last linear layer gets, and P is 1.

    Raises:
        RequestError: no such layer, or it gives no tensor with a row an input.
    """
    shapes: dict[str, torch.Size] = {}

    def keep(name: str, made: object) -> None:
        if isinstance(made, Tensor):
            shapes.pop(name, None)  # in the order of the last use
            shapes[name] = made.shape

    hooks = [
        each.register_forward_hook(lambda _, __, made, name=name: keep(name, made))
        for name, each in model.named_modules()
        if name
    ]
    try:
        with evaluating(model):
            model(in_unit_range(x[:1]).to(device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    maps = [name for name, shape in shapes.items() if len(shape) == 4 and shape[2] * shape[3] > 1]
    chosen = layer if layer is not None or not maps else maps[-1]
    features = read_features(model, x, chosen)
    channels = shapes[chosen][1] if chosen in shapes and len(shapes[chosen]) > 2 else features.shape[1]
    return features.reshape(len(x), channels, -1), chosen or feature_layer(model, x)


@torch.no_grad()
def feature_layer(model: nn.Module, x: Tensor, layer: str | None = None) -> str:
    """The name of the layer that `read_features` reads: `layer`, or the last linear one that makes the logits.

    Raises:
        RequestError: there is none of that name, or no linear layer that gives as many values as there are classes.
    """
    names = [name for name, _ in model.named_modules() if name]
    if layer is not None:
        if layer not in names:
            raise RequestError(f"layer={layer!r} is none of the model's: {nearest(layer, names)}")
        return layer
    ran: list[tuple[str, int]] = []
    linear = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    hooks = [
        each.register_forward_hook(lambda _, __, made, name=name: ran.append((name, made.shape[-1])))
        for name, each in linear
    ]
    try:
        with evaluating(model):
            classes = logits_of(model, in_unit_range(x[:1]).to(device_of(model))).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    fitting = [name for name, width in ran if width == classes]
    if not fitting:
        raise RequestError(
            f"no linear layer gives the {classes} logits: name the layer of features, such as {names[-1:]}"
        )
    return fitting[-1]


def require_clean(clean: Labelled | None, method: str, least: int = 1) -> Labelled:
    """The clean records, where there are enough of them.

    Raises:
        RequestError: there are none, or fewer than `least`.
    """
    if clean is None or len(clean.y) < least:
        found = "none were given" if clean is None else f"there are {len(clean.y)}"
        raise RequestError(
            f"{method} needs at least {least} clean records, and {found}: hold some out (data.val_size=0.1), or name "
            "them (clean=test)"
        )
    return clean


def require_pictures(records: Labelled, method: str) -> None:
    """Refuse what a method that looks at pictures cannot look at.

    Raises:
        RequestError: the inputs are none, (N, C, H, W).
    """
    if records.x.ndim != 4:
        raise RequestError(
            f"{method} needs pictures (N, C, H, W), got inputs {tuple(records.x.shape)}: take another method, such as "
            "activation_clustering"
        )


def require_classes(model: nn.Module, records: Labelled) -> int:
    """How many classes the model tells apart.

    Raises:
        RequestError: a record has a label beyond them.
    """
    classes = read_logits(model, records.x[:1]).shape[1]
    if len(records.y) and int(records.y.max()) >= classes:
        raise RequestError(
            f"the model tells {classes} classes apart, but the data have the label {int(records.y.max())}: it was "
            "trained on other data"
        )
    return classes


def content_order(records: Labelled) -> Tensor:
    """The rows (N,) int64 in an order that their content decides, not their ids or places: inputs, then labels.

    What a detector draws by row, or cuts into folds, it draws from `x[order]`, so that scores belong to records.
    """
    # row by row what `record_digests` gives is the order of x; a stable sort by label before it breaks ties
    by_label = records.y.cpu().argsort(stable=True)
    return by_label[record_digests(records.x).index_select(0, by_label).argsort(stable=True)]


def _in_batches(model: nn.Module, x: Tensor, batch_size: int, read: Callable[[Tensor], Tensor]) -> Tensor:
    device = device_of(model)
    with evaluating(model):
        return torch.cat([read(in_unit_range(part).to(device)).cpu() for part in torch.split(x, batch_size)])
