"""Several attempts on every example, of which one success is enough: restarts and target classes, in full batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustml.deadline import keeping

Attempt = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def first_success(
    attempt: Attempt, x: Tensor, attempts: int, *, batch_size: int, together: int | None = None
) -> Tensor:
    """Try each example `attempts` times, in full batches; those that were fooled leave, the others go on.

    Args:
        attempt: `(index, number)` (M,) of examples and attempt numbers to images (M, ...) and whether each fools (M,).
            Called under `no_grad`.
        x: (N, ...), what an example that never fools comes back as.
        attempts: how often.
        batch_size: most examples times attempts in one call.
        together: how many attempts on an example to run in one call. More waste work on examples that fall at the first
            and keep an accelerator busy on the others: all of them there, one after the other on a CPU, by default.

    Returns:
        (N, ...): the fooling image of the first attempt that found one, or the original.
    """
    together = min(attempts, together or (1 if x.device.type == "cpu" else attempts))
    result = x.clone()
    left = torch.arange(len(x), device=x.device)
    for first in range(0, attempts, together):
        numbers = torch.arange(first, min(first + together, attempts), device=x.device)
        unfooled = []
        for chunk in torch.split(left, max(1, batch_size // len(numbers))):
            with keeping(lambda: result):
                images, fooled = attempt(chunk.repeat_interleave(len(numbers)), numbers.repeat(len(chunk)))
            fooled = fooled.view(len(chunk), len(numbers))
            # argmax takes the first True, so that the image kept does not depend on how the attempts were batched.
            chosen = images.view(len(chunk), len(numbers), *x.shape[1:])[
                torch.arange(len(chunk), device=x.device), fooled.int().argmax(dim=1)
            ]
            success = fooled.any(dim=1)
            result[chunk[success]] = chosen[success]
            unfooled.append(chunk[~success])
        left = torch.cat(unfooled) if unfooled else left
        if not len(left):
            break
    return result


def targets_of(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """The `count` likeliest wrong classes of each example, likeliest first: (N, min(count, C - 1))."""
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, : min(count, logits.shape[1] - 1)]
