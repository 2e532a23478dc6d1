"""Fine-pruning: cut the channels that clean inputs leave dormant, then fine-tune what is left.

Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks" (RAID 2018,
arXiv:1805.12185): channels of the last convolution fall in the order of their mean activation, until the accuracy on
clean records that nothing was trained on has dropped by more than a tolerance.

Deviations: none is cut whose fall costs more than the tolerance (the paper stops just behind it); at most 64 cuts are
looked at, so that a wide layer loses several channels between two; an activation is what the convolution gives, behind
its batch norm where it has one, and behind a ReLU in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.reading import read_features, read_logits, require_classes, require_clean
from robustml.defenses.repair.convolutions import Convolution, layer_to_prune
from robustml.defenses.repair.tuning import Tuning, copied, drawing
from robustml.errors import RequestError
from robustml.progress import track
from robustml.types import Labelled

_LOOKS = 64


@dataclass(frozen=True)
class FinePruning(Tuning):
    """Prune, then fine-tune; cut channels stay cut. Further arguments are those of `Tuning`.

    Args:
        tolerance: how far clean accuracy may fall by the pruning, in [0, 1]; the paper's is 0.04.
        layer: a convolution, or a linear layer, as `model.named_modules()` names it; None is the last convolution.
    """

    tolerance: float = 0.04
    layer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tolerance < 1:
            raise RequestError(f"tolerance must be in [0, 1), got {self.tolerance}")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """The pruned and tuned copy; `records` are not looked at.

        Raises:
            RequestError: no clean records, other classes, or no such layer.
        """
        clean = require_clean(clean, "fine-pruning", 2)
        require_classes(model, clean)
        found = copied(model)
        layer = layer_to_prune(found, clean.x, self.layer)
        cut = self.dormant(found, layer, clean)
        layer.silence(cut)
        with drawing(model, generator), _kept_at_zero(layer, cut):
            return self.fit(found, clean)

    def dormant(self, model: nn.Module, layer: Convolution, clean: Labelled) -> Tensor:
        """The channels (K,) to cut, the most dormant first."""
        order = _mean_activation(model, layer, clean).argsort(stable=True)
        kept = torch.ones(len(order), device=order.device)
        shape = (1, -1, *[1] * (_dimensions(layer) - 2))
        hook = layer.last.register_forward_hook(lambda _, __, made: made * kept.to(made).view(shape))
        try:
            least = _accuracy(model, clean) - self.tolerance
            count = 0
            # The last channel stays: without it, nothing is left to tune.
            for part in track(torch.split(order[:-1], -(-len(order) // _LOOKS)), "pruning"):
                kept[part] = 0
                if _accuracy(model, clean) < least - 1e-9:
                    break
                count += len(part)
        finally:
            hook.remove()
        return order[:count]


def _dimensions(layer: Convolution) -> int:
    return 2 if isinstance(layer.layer, nn.Linear) else layer.layer.weight.ndim


def _mean_activation(model: nn.Module, layer: Convolution, clean: Labelled) -> Tensor:
    name = next(name for name, module in model.named_modules() if module is layer.last)
    made = read_features(model, clean.x, name).relu()
    return made.view(len(made), len(layer.layer.weight), -1).double().mean((0, 2))


def _accuracy(model: nn.Module, clean: Labelled) -> float:
    return float((read_logits(model, clean.x).argmax(1) == clean.y.cpu()).double().mean())


@contextmanager
def _kept_at_zero(layer: Convolution, cut: Tensor) -> Iterator[None]:
    """Gradients of the weights of the cut channels are 0, so that no optimizer moves them from 0."""
    modules = [module for module in (layer.layer, layer.norm) if module is not None]
    hooks = [
        parameter.register_hook(lambda gradient: gradient.index_fill(0, cut.to(gradient.device), 0))  # type: ignore[no-untyped-call]
        for module in modules
        for parameter in module.parameters(recurse=False)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
