"""Search in half precision, judge in full: what an attack proposes is worth only what the model itself says of it.

Most passes of a strong attack only ask in which direction to go on. Hardware that multiplies bfloat16 (accelerators,
and CPUs with AMX) answers that question in a fraction of the time; on other CPUs it takes longer than float32.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.deadline import keeping
from robustml.types import Attack, Threat


class HalfPrecision(nn.Module):
    """A model whose matrix products and convolutions run in bfloat16; its parameters stay as they are.

    Args:
        model: any device. Images go in and logits come out in float32.
    """

    def __init__(self, model: nn.Module) -> None:
        """Share the model, in the mode it is in."""
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of images (N, ...)."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return logits_of(self.model, x)


def search_in_half_precision(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    seed: int,
    batch_size: int,
    half: nn.Module | None = None,
) -> Tensor:
    """What `attack` finds on the model in bfloat16, as long as it fools the model itself.

    Where it does not, the attack is run again on the model itself: an example is never given up because of rounding,
    though one may be missed that only float32 would have found.

    Args:
        attack: any.
        model: called on images (N, ...), with frozen parameters.
        x: (N, ...) in [0, 1].
        y: (N,).
        threat: what the attack may do.
        seed: of the attack's random numbers, in both searches.
        batch_size: most examples in the passes that judge.
        half: the model in half precision, where the caller has it in another form than `HalfPrecision`.

    Returns:
        (N, ...): what the attack found.
    """
    half = half or HalfPrecision(model)
    found = attack(half, x, y, threat, generator=Generator().manual_seed(seed))
    # What fools it in half precision only. Where nothing was found, both are right.
    disputed = (_fooled(half, found, y, batch_size) & ~_fooled(model, found, y, batch_size)).nonzero().squeeze(1)
    if len(disputed):
        with keeping(lambda: found, disputed):
            found[disputed] = attack(model, x[disputed], y[disputed], threat, generator=Generator().manual_seed(seed))
    return found


def _fooled(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    labels = [logits_of(model, part).argmax(dim=1) for part in torch.split(x, batch_size)]
    return torch.cat(labels) != y
