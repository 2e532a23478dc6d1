"""A few attacked images, kept for the report's picture grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.results import Examples


def pick_examples(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attacked: Mapping[str, Tensor],
    class_names: Sequence[str] | None,
    count: int,
    ids: Sequence[int] | None = None,
) -> Examples | None:
    """Up to `count` images of one batch that were classified correctly: the fooled ones first, classes mixed.

    Args:
        model: in eval mode.
        x: (N, ...) images.
        y: (N,) labels.
        attacked: attack name to what it made of `x`.
        class_names: names of the classes; "0", "1", ... by default.
        count: how many to keep.
        ids: (N,) of the records, where they are known.

    Returns:
        None where there was no attack or no image was classified correctly.
    """
    if not attacked:
        return None
    with torch.no_grad():
        confidence, prediction = logits_of(model, x).softmax(1).max(1)
        judged = {name: logits_of(model, x_adv).softmax(1).max(1) for name, x_adv in attacked.items()}
    correct = prediction == y
    name = max(judged, key=lambda key: int((correct & (judged[key].indices != y)).sum()))
    adversarial_confidence, adversarial_prediction = judged[name]
    fooling = [name] * len(y)
    x_adv = attacked[name].clone()
    # What the strongest leaves, another may turn; in a cascade, an attack never saw what those before it had.
    for other, (sure, label) in judged.items():
        for place in ((adversarial_prediction == y) & (label != y)).nonzero().flatten().tolist():
            fooling[place], x_adv[place] = other, attacked[other][place]
            adversarial_prediction[place], adversarial_confidence[place] = label[place], sure[place]
    order = _spread_over_classes(correct, adversarial_prediction != y, y)[:count]
    if not len(order):
        return None
    names = tuple(class_names) if class_names else tuple(str(label) for label in range(int(y.max()) + 1))

    def kept(tensor: Tensor) -> Any:
        return tensor[order].cpu().numpy()

    return Examples(
        attack=name,
        x=kept(x.float()),
        x_adv=kept(x_adv.float()),
        y=kept(y),
        prediction=kept(prediction),
        confidence=kept(confidence),
        adversarial_prediction=kept(adversarial_prediction),
        adversarial_confidence=kept(adversarial_confidence),
        class_names=names,
        attacks=tuple(fooling[place] for place in order.tolist()),
        ids=None if ids is None else np.array(ids)[order.cpu().numpy()],
    )


def _spread_over_classes(correct: Tensor, fooled: Tensor, y: Tensor) -> Tensor:
    """Indices of the correct images: fooled before robust, in each kind the first of every class before the next."""
    turn = torch.zeros_like(y)
    for kind in (correct & fooled, correct & ~fooled):
        for label in range(int(y.max()) + 1):
            members = kind & (y == label)
            turn[members] = torch.arange(int(members.sum()), device=y.device)
    keys = (~fooled).long() * (len(y) + 1) + turn
    chosen = correct.nonzero().squeeze(1)
    return chosen[keys[chosen].argsort(stable=True)]
