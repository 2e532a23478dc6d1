"""What a backdoor does to a model: how often the attacker hears what he wants, and how often the truth."""

from __future__ import annotations

import torch
from torch import nn

from robustml.attacks.engine.gradient import logits_of
from robustml.data import Records, TensorLoader
from robustml.modes import evaluating
from robustml.poisoning import Triggered
from robustml.results import BackdoorRates, rate, share


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
    loader = TensorLoader(Records(presented.x, presented.y, names), batch_size, device=device)
    with evaluating(model):
        labels = torch.cat([logits_of(model, x).argmax(dim=1) for x, _ in loader]).cpu()
    return BackdoorRates(
        attack_success_rate=share(labels == presented.target), backdoor_recovery_accuracy=share(labels == presented.y)
    )
