"""What a backdoor does to a model: how often the attacker hears what he wants, and how often the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robustml.attacks.engine.gradient import logits_of
from robustml.data import Records, TensorLoader
from robustml.modes import evaluating
from robustml.poisoning import Triggered
from robustml.results import Rate, rate

__all__ = ["BackdoorResults", "backdoor_success"]


@dataclass(frozen=True)
class BackdoorResults:
    """The two figures of a backdoor, both over the inputs that the attacker presents (none of the target class)."""

    attack_success_rate: Rate
    """The share that got the label he wants."""
    recovery_accuracy: Rate
    """The share that kept its true label."""

    def to_dict(self) -> dict[str, Any]:
        """The names of the results schema."""
        return {
            "attack_success_rate": self.attack_success_rate.model_dump(),
            "backdoor_recovery_accuracy": self.recovery_accuracy.model_dump(),
        }


@torch.no_grad()
def backdoor_success(
    model: nn.Module, presented: Triggered, *, device: torch.device | str = "cpu", batch_size: int = 500
) -> BackdoorResults:
    """Show a model what the attacker presents, in eval mode.

    Args:
        model: images (N, ...) in [0, 1] to logits (N, C), on `device`.
        presented: from a backdoor's `triggered`.
        device: where to run.
        batch_size: inputs a batch.
    """
    if not len(presented.y):
        return BackdoorResults(rate(0, 0), rate(0, 0))
    names = tuple(str(label) for label in range(int(torch.maximum(presented.y, presented.target).max()) + 1))
    loader = TensorLoader(Records(presented.x, presented.y, names), batch_size, device=device)
    with evaluating(model):
        labels = torch.cat([logits_of(model, x).argmax(dim=1) for x, _ in loader]).cpu()
    count = len(labels)
    return BackdoorResults(
        rate(int((labels == presented.target).sum()), count), rate(int((labels == presented.y).sum()), count)
    )
