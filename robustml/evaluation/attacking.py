"""One attack on one batch: the verdicts, all of them or, where it was stopped, those that are known by then."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.deadline import Deadline, OutOfTime
from robustml.errors import RunFailed
from robustml.evaluation.batches import Batch
from robustml.evaluation.crafting import Crafting
from robustml.evaluation.parameters import attack_generator
from robustml.evaluation.verdicts import AttackVerdicts, Bools
from robustml.types import Attack, Threat


def attack_batch(
    crafting: Crafting,
    model: nn.Module,
    batch: Batch,
    name: str,
    attack: Attack,
    target: Bools,
    threat: Threat,
    seed: int,
    deadline: Deadline,
    before: AttackVerdicts | None = None,
) -> tuple[AttackVerdicts, Tensor, BaseException | None]:
    """Run one attack on the images of a batch that `target` (N,) selects.

    Args:
        crafting: runs it.
        model: judges what it makes.
        batch: the images, all of them.
        name: of the attack.
        attack: see `Crafting`.
        target: which of them.
        threat: what it may do.
        seed: of the evaluation.
        deadline: when it is broken off.
        before: what it found when it was stopped the last time; then only those that are pending are attacked, and
            with a deadline no more at once than `before` says.

    Returns:
        The verdicts; all images (N, ...), attacked or not; and what stopped it, if something did.
    """
    began = time.perf_counter()
    x, x_adv, stop = batch.x, batch.x.clone(), None
    verdicts = before.copy() if before is not None else AttackVerdicts(target, np.zeros(len(target)), target).copy()
    to_go = target.copy() if before is None or before.to_go is None else before.to_go.copy()
    index = torch.from_numpy(to_go).nonzero().squeeze(1)
    at_once = len(index) if before is None or deadline.seconds is None else before.at_once
    for rows in torch.split(index, max(1, at_once)) if len(index) else ():
        generator = attack_generator(seed, name, x.device)
        original, label = (each[rows.to(x.device)] for each in (x, batch.y))
        try:
            with deadline.held():
                found = crafting(name, attack, model, original, label, threat, generator)
        except (OutOfTime, KeyboardInterrupt) as stopped:
            stop, found = stopped, _valid(getattr(stopped, "found", None), original, threat)
            # The next time as little may be left, and as many would be too much again.
            verdicts.at_once = max(1, len(rows) // 2)
        x_adv[rows.to(x.device)], places = found, rows.numpy()
        verdicts.robust[places], verdicts.rounded[places] = _judged(model, found, label, threat, name)
        verdicts.distance[places] = threat.distance(found, original).double().cpu().numpy()
        to_go[places] = verdicts.robust[places] & (stop is not None)
        if stop is not None:
            break
    verdicts.pending, verdicts.to_go = int(to_go.sum()), to_go if to_go.any() else None
    verdicts.seconds += time.perf_counter() - began
    return verdicts, x_adv, stop


def _judged(model: nn.Module, x_adv: Tensor, y: Tensor, threat: Threat, name: str) -> tuple[Bools, Bools]:
    """Which images (N, ...) still get their labels (N,), as they are and stored with 8 bits a value."""
    low, high = threat.bounds
    stored = ((x_adv - low) / (high - low) * 255).round().div(255) * (high - low) + low
    with torch.no_grad():
        logits = logits_of(model, x_adv)
        if not logits.isfinite().all():
            raise RunFailed(f"the model returns logits that are not finite on images that attack {name!r} made")
        robust = logits.argmax(dim=1) == y
        rounded = logits_of(model, stored).nan_to_num(nan=torch.inf).argmax(dim=1) == y
    return robust.cpu().numpy(), rounded.cpu().numpy()


def _valid(found: object, x: Tensor, threat: Threat) -> Tensor:
    """What an attack that was stopped hands up, where it is inside the threat; elsewhere the images (N, ...)."""
    if not isinstance(found, Tensor) or found.shape != x.shape:
        return x
    images = found.to(x)
    inside = threat.contains(images, x) & images.flatten(1).isfinite().all(dim=1)
    return torch.where(inside.view(-1, *[1] * (x.ndim - 1)), images, x)
