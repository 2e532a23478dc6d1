"""The one loop behind FGSM, PGD, BIM and MI-FGSM: step uphill, project, and let the fooled ones leave."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import input_gradient
from robustml.attacks.engine.losses import Goal, attack_loss
from robustml.deadline import keeping
from robustml.types import Threat


def climb(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    start: Tensor,
    *,
    threat: Threat,
    loss: str,
    steps: int,
    step_size: float,
    decay: float | None = None,
    early_stop: bool = False,
) -> Tensor:
    """Climb the loss from `start` and return the last iterate of each example (N, ...).

    Args:
        model: differentiated with respect to its input, in the mode it is in.
        x: (N, ...), the originals, in the box.
        goal: what the attacker wants of them.
        start: (N, ...), where each example starts.
        threat: directions and projection.
        loss: a name of `robustml.attacks.engine.losses`.
        steps: gradient steps, each one forward and one input-gradient pass.
        step_size: length of a step, in the unit of `threat.eps`.
        decay: with a number, steps follow a decayed sum of normalised gradients (momentum) instead of the gradient.
        early_stop: an example whose goal is reached keeps that iterate and leaves the batch, so that later steps cost
            less. The last iterate is not looked at: that would cost a forward pass which the caller may make anyway.
    """
    loss_function = attack_loss(loss)
    result, active = start, None
    x_adv, memory = start, None

    def so_far() -> Tensor:
        return x_adv if active is None else result.index_copy(0, active, x_adv)

    for _ in range(steps):
        with keeping(so_far):
            gradient, logits = input_gradient(model, x_adv, lambda logits, goal=goal: loss_function(logits, goal))  # type: ignore[misc]
        if early_stop:
            climbing = ~goal.reached(logits)
            if not climbing.all():
                if active is None:
                    result, active = start.clone(), torch.arange(len(x), device=x.device)
                result[active] = x_adv
                kept = climbing.nonzero().squeeze(1)
                active, x, x_adv, gradient, goal = active[kept], x[kept], x_adv[kept], gradient[kept], goal.take(kept)
                memory = None if memory is None else memory[kept]
                if not len(kept):
                    return result
        if decay is not None:
            scale = gradient.flatten(1).abs().mean(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
            gradient = gradient / scale.view(-1, *[1] * (gradient.ndim - 1))
            memory = gradient if memory is None else torch.add(gradient, memory, alpha=decay)
            gradient = memory
        x_adv = threat.project(threat.ascend(x_adv, gradient, step_size), x)
    return so_far()
