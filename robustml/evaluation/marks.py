"""What a mark on the pictures does to a model: a backdoor's trigger, or a shortcut that came with a class.

Worst-group accuracy is from Sagawa et al. 2020, "Distributionally Robust Neural Networks for Group Shifts"
(arXiv:1911.08731).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.data import Records, TensorLoader
from robustml.modes import evaluating
from robustml.poisoning import Triggered
from robustml.poisoning.choose import class_label
from robustml.poisoning.pixels import stamped
from robustml.results import BackdoorRates, Group, Reliance, rate, share


@torch.no_grad()
def backdoor_success(
    model: nn.Module, presented: Triggered, *, device: torch.device | str = "cpu", batch_size: int = 500
) -> BackdoorRates:
    """Show a model what the attacker presents, in eval mode.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C), on `device`.
        presented: from a backdoor's `triggered`.
        device: where to run.
        batch_size: inputs a batch.
    """
    if not len(presented.y):
        return BackdoorRates(attack_success_rate=rate(0, 0), backdoor_recovery_accuracy=rate(0, 0))
    names = tuple(str(label) for label in range(int(torch.maximum(presented.y, presented.target).max()) + 1))
    with evaluating(model):
        labels = _labels(model, Records(presented.x, presented.y, names), device, batch_size)
    return BackdoorRates(
        attack_success_rate=share(labels == presented.target), backdoor_recovery_accuracy=share(labels == presented.y)
    )


@torch.no_grad()
def shortcut_reliance(
    model: nn.Module,
    test: Records,
    mark: Callable[[Tensor], Tensor],
    target: int | str,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 500,
) -> Reliance:
    """Classify every test input with and without the mark, in eval mode.

    Args:
        model: inputs (N, ...) in [0, 1] to logits (N, C), on `device`.
        test: without the mark.
        mark: puts it on inputs (N, ...) in [0, 1]; the `trigger` of a `Shortcut`.
        target: the class (number or name) that the mark went with in training.
        device: where to run.
        batch_size: inputs a batch.

    Raises:
        RequestError: there is no such class, the test part is empty, or the mark does not fit.
    """
    own = test.y == class_label(test, target, "target")
    stamped_test = Records(stamped(test.x, mark), test.y, test.class_names)
    with evaluating(model):
        without, with_mark = (_labels(model, arrays, device, batch_size) for arrays in (test, stamped_test))
    groups = [
        Group.model_validate({"class": name, "marked": marked, "accuracy": share((labels == test.y)[test.y == label])})
        for label, name in enumerate(test.class_names)
        for marked, labels in ((False, without), (True, with_mark))
    ]
    flipped = without != with_mark
    return Reliance(
        aligned_accuracy=share(torch.where(own, with_mark, without) == test.y),
        worst_group=min((group for group in groups if group.accuracy.n), key=lambda group: group.accuracy.value or 0.0),
        flip_rate_added=share(flipped[~own]),
        flip_rate_removed=share(flipped[own]),
        groups=groups,
    )


def _labels(model: nn.Module, arrays: Records, device: torch.device | str, batch_size: int) -> Tensor:
    """What the model reads in each input: (N,), on the CPU."""
    loader = TensorLoader(arrays, batch_size, device=device)
    return torch.cat([logits_of(model, x).argmax(dim=1) for x, _ in loader]).cpu()
