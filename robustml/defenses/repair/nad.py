"""Neural attention distillation: fine-tune, and draw the model's attention to where a fine-tuned teacher's is.

Li, Lyu, Koren, Lyu, Li and Ma, "Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural Networks"
(ICLR 2021, arXiv:2101.05930): the teacher is the model itself, fine-tuned on the clean records. The attention of a
layer is the sum over its channels of ``|activation|^2``, as a vector of length 1; the student's loss is its
cross-entropy and, for each layer, beta times the distance of the two vectors.

Deviations: the layers, where none are named, are the last convolution of each resolution, three at most, behind batch
norm and a ReLU; the paper takes the residual groups of a wide ResNet. One beta for all layers. The distance is
squared, so that its gradient is no less smooth at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.defenses.reading import feature_layer, require_classes, require_clean
from robustml.defenses.repair.convolutions import convolutions_of
from robustml.defenses.repair.tuning import Tuning, copied, drawing
from robustml.errors import RequestError
from robustml.types import Labelled


@dataclass(frozen=True)
class NAD(Tuning):
    """Distils the attention of a fine-tuned copy. Further arguments are those of `Tuning`, for teacher and student.

    Args:
        beta: the weight of each layer's distance.
        layers: names of layers that give (N, C, ...), as `model.named_modules()` has them; None is as above.
    """

    beta: float = 10.0
    layers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(0, "beta")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """The student; `records` are not looked at.

        Raises:
            RequestError: no clean records, other classes, or no layer that has an attention.
        """
        clean = require_clean(clean, "NAD", 2)
        require_classes(model, clean)
        names = self._layers(model, clean.x)
        with drawing(model, generator), ExitStack() as hooks:
            teacher, student = self.fit(copied(model), clean, what="fine-tuning the teacher"), copied(model)
            teacher.requires_grad_(False)
            theirs, own = (_kept(each, names, hooks) for each in (teacher, student))

            def loss(student: nn.Module, x: Tensor, y: Tensor) -> Tensor:
                logits = logits_of(student, x)
                teacher(x)
                apart = [attention_distance(own[name], theirs[name]) for name in names]
                return functional.cross_entropy(logits, y) + self.beta * torch.stack(apart).sum()

            return self.fit(student, clean, loss, "distilling")

    def _layers(self, model: nn.Module, x: Tensor) -> list[str]:
        if self.layers is not None:
            return [feature_layer(model, x, name) for name in self.layers]
        names = {module: name for name, module in model.named_modules()}
        by_size = {each.size: names[each.last] for each in convolutions_of(model, x)}
        if not by_size:
            raise RequestError(
                "NAD needs layers with channels, and the model has no convolution: name them, layers=[...]"
            )
        return list(by_size.values())[-3:]


def attention_distance(own: Tensor, theirs: Tensor) -> Tensor:
    """The mean over examples of the squared distance between the attentions of activations (N, C, ...)."""
    own, theirs = (functional.normalize(each.relu().square().sum(1).flatten(1), dim=1) for each in (own, theirs))
    return (own - theirs).square().sum(1).mean()


def _kept(model: nn.Module, names: list[str], hooks: ExitStack) -> dict[str, Tensor]:
    """What the layers gave in the last pass."""
    modules, kept = dict(model.named_modules()), {}

    def keep(name: str, made: object) -> None:
        if not isinstance(made, Tensor) or made.ndim < 3:
            raise RequestError(f"layer {name} gives no activations (N, C, ...), which have an attention: name another")
        kept[name] = made

    for name in names:
        hook = modules[name].register_forward_hook(lambda _, __, made, name=name: keep(name, made))
        hooks.callback(hook.remove)
    return kept
