"""Interval bound propagation: what the logits can be for any input in a box.

Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", 2018,
arXiv:1810.12715, section 3, with the elision of the last layer. Deviations: residual sums and batch norm are bounded
too. Figures are sound up to rounding in the precision of the model; nothing is rounded outwards.

The operations of a model are read off its `forward` by symbolic tracing (torch.fx). One that is not known here is
refused, never passed over, and so is whatever tracing could overlook: replaced `forward`s, subclassed layers, hooks but
for those whose `only_watches` is true.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from robustml.errors import RequestError
from robustml.models.normalize import Normalize
from robustml.modes import evaluating


class Interval(NamedTuple):
    """All tensors between `lower` and `upper`, elementwise; both (N, ...)."""

    lower: Tensor
    upper: Tensor


# Nowhere decreasing in any of their inputs: the bounds of what they return are what they make of the bounds.
_MONOTONE_LAYERS = (
    Normalize,
    nn.AdaptiveAvgPool2d,
    nn.AvgPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.Identity,
    nn.LeakyReLU,
    nn.MaxPool2d,
    nn.ReLU,
    nn.Sigmoid,
    nn.Tanh,
)
_MONOTONE_FUNCTIONS = (functional.relu, torch.relu, torch.tanh, torch.sigmoid, torch.flatten)
_MONOTONE_METHODS = ("relu", "tanh", "sigmoid", "flatten", "mean", "reshape", "view")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def logit_bounds(model: nn.Module, box: Interval) -> Interval:
    """Bounds (N, C) of the logits of `model`, as it is in eval mode, over a box of inputs (N, ...) for each example.

    Differentiable with respect to the parameters.

    Raises:
        RequestError: the model cannot be traced, or holds an operation that cannot be bounded; it is named.
    """
    features, last = _features(model, box)
    return features if last is None else _affine(last, features)


def margin_bounds(model: nn.Module, box: Interval, y: Tensor) -> Tensor:
    """Lower bounds (N, C) of how far the logit of class `y` (N,) lies above each logit; 0 in the column of `y`.

    The differences are taken in the weights of the last layer where that is linear, which is tighter than the
    difference of the bounds. Model and errors as for `logit_bounds`.
    """
    features, last = _features(model, box)
    if last is None:
        margins = features.lower.gather(1, y.unsqueeze(1)) - features.upper
    else:
        center, radius = (features.upper + features.lower) / 2, (features.upper - features.lower) / 2
        logits = last(center)
        differences = last.weight[y].unsqueeze(1) - last.weight
        spread = (differences.abs() @ radius.unsqueeze(2)).squeeze(2)
        margins = logits.gather(1, y.unsqueeze(1)) - logits - spread
    return margins.scatter(1, y.unsqueeze(1), 0.0)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Normalisation is a layer here as torch's own are: its check of the channels cannot be traced."""
        return isinstance(m, Normalize) or super().is_leaf_module(m, module_qualified_name)


def _features(model: nn.Module, box: Interval) -> tuple[Interval, nn.Linear | None]:
    """Bounds before the last layer, and that layer, if it is linear; else those of the logits, and None."""
    with evaluating(model):
        graph = _trace(model)
        layers = dict(model.named_modules(remove_duplicate=False))
        final = next(iter(reversed(graph.nodes))).args[0]
        if not isinstance(final, fx.Node):
            raise _cannot(f"{type(model).__name__}, which does not return a tensor of logits")
        last = layers[str(final.target)] if final.op == "call_module" and len(final.users) == 1 else None
        if type(last) is not nn.Linear or len(final.args) != 1:
            last = None
        values: dict[fx.Node, Any] = {}
        for node in graph.nodes:
            if node.op != "output" and not (last is not None and node is final):
                values[node] = _bound(node, values, model, layers, box)
        if last is not None:
            return _interval(final, values), last
    if not isinstance(values[final], Interval):
        raise _cannot(f"{type(model).__name__}, whose logits do not depend on the images")
    return values[final], None


def _trace(model: nn.Module) -> fx.Graph:
    for name, module in model.named_modules():
        hooks = [hook for hook in module._forward_hooks.values() if not getattr(hook, "only_watches", False)]
        if hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise _cannot(f"{name or 'the model'} ({type(module).__name__}), whose forward hooks or patches change")
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # the model's own code runs on stand-ins for tensors, which may upset it in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _cannot(f"{type(model).__name__}, which cannot be traced ({reason})") from error
    if sum(node.op == "placeholder" for node in graph.nodes) != 1:
        raise _cannot(f"{type(model).__name__}, whose forward takes more than the images")
    return graph


def _cannot(what: str) -> RequestError:
    return RequestError(
        f"interval bounds cannot be taken through {what}: expected Linear, Conv2d, batch norm, ReLU, LeakyReLU, Tanh, "
        "Sigmoid, pools, Flatten and sums of these"
    )


def _bound(
    node: fx.Node, values: dict[fx.Node, Any], model: nn.Module, layers: dict[str, nn.Module], box: Interval
) -> Any:
    """The value of one step of the model: an `Interval`, or a tensor that does not depend on the images."""
    if node.op == "placeholder":
        return Interval(box.lower.clone(), box.upper.clone())  # the first layer may work in place
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(model)
    if node.op == "call_module":
        layer = layers[str(node.target)]
        if len(node.args) == 1 and not node.kwargs:
            bounds = _through_layer(layer, _interval(node, values))
            if bounds is not None:
                return bounds
        raise _cannot(f"{node.target} ({layer})")
    if node.op == "call_function" and node.target is operator.add:
        terms: list[Any] = [values[term] if isinstance(term, fx.Node) else term for term in node.args]
        first, second = (term if isinstance(term, Interval) else Interval(term, term) for term in terms)
        return Interval(first.lower + second.lower, first.upper + second.upper)
    name = str(getattr(node.target, "__name__", node.target))
    known = _MONOTONE_METHODS if node.op == "call_method" else _MONOTONE_FUNCTIONS
    if node.target in known and len(node.all_input_nodes) == 1:
        inside, rest, options = _interval(node, values), node.args[1:], node.kwargs
        call: Any = getattr(Tensor, name) if node.op == "call_method" else node.target
        return Interval(call(inside.lower, *rest, **options), call(inside.upper, *rest, **options))
    raise _cannot(f"the operation {name!r} in the forward of {type(model).__name__}")


def _interval(node: fx.Node, values: dict[fx.Node, Any]) -> Interval:
    """The bounds of the first input of a step."""
    first = node.args[0] if node.args else None
    value = values.get(first) if isinstance(first, fx.Node) else None
    if isinstance(value, Interval):
        return value
    raise _cannot(f"step {node.name!r}, which does not start from the images")


def _through_layer(layer: nn.Module, inside: Interval) -> Interval | None:
    """Bounds of what a layer returns; None where it is not known to be bounded so."""
    # By type, not by isinstance: a subclass may compute anything.
    kind = type(layer)
    if kind is nn.Linear or (kind is nn.Conv2d and layer.padding_mode == "zeros"):
        return _affine(layer, inside)
    if kind in _BATCH_NORMS and layer.running_mean is not None:
        return _affine(layer, inside)
    decreasing = kind is nn.LeakyReLU and layer.negative_slope < 0  # type: ignore[operator]
    decreasing |= kind is nn.AvgPool2d and (layer.divisor_override or 1) < 0  # type: ignore[operator]
    if kind in _MONOTONE_LAYERS and not decreasing:
        return Interval(layer(inside.lower), layer(inside.upper))
    return None


def _affine(layer: nn.Module, inside: Interval) -> Interval:
    """Exact bounds of W x + b: the center goes through the layer, the radius through |W| alone."""
    center: Tensor = layer((inside.upper + inside.lower) / 2)
    radius = (inside.upper - inside.lower) / 2
    if isinstance(layer, nn.Linear):
        spread = functional.linear(radius, layer.weight.abs())
    elif isinstance(layer, nn.Conv2d):
        spread = functional.conv2d(
            radius, layer.weight.abs(), None, layer.stride, layer.padding, layer.dilation, layer.groups
        )
    else:
        assert isinstance(layer, _BATCH_NORMS)
        assert layer.running_var is not None
        scale = torch.rsqrt(layer.running_var + layer.eps)
        if layer.affine:
            scale = scale * layer.weight.abs()
        spread = radius * scale.view(1, -1, *[1] * (radius.ndim - 2))
    return Interval(center - spread, center + spread)
