"""Accuracy as a function of eps: the whole curve, at little more than the price of one point.

A perturbation that fits into a ball fits into every larger one, so each image has one smallest eps at which it is
fooled, and the curve follows from those:

1. The attack runs at the largest eps. What survives it is carried as robust down to the smallest.
2. A minimum-norm search (FMN) shrinks what was found, and looks from the image itself where nothing was: that gives
   each image an upper bound.
3. From the largest eps down, the attack runs on those images alone whose bound is the next larger eps. Those that it
   fools there go on to the next smaller one; the others have their answer.

An image thus pays for one failed attack, just below the eps at which it is fooled, instead of one at every eps. Threats
that are no Lp balls have no search: their images descend from the largest eps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, distributed, nn

from robustml.attacks import FMN, at_eps
from robustml.attacks.gradient import logits_of
from robustml.errors import RequestError, RunFailed
from robustml.evaluation.evaluator import Batches, attack_generator, evaluate
from robustml.evaluation.sanity import Flag
from robustml.evaluation.verdicts import Bools, Integers
from robustml.modes import evaluating, frozen
from robustml.reporting.schema import Rate, rate
from robustml.threats import LpBall
from robustml.types import Attack, Threat

__all__ = ["Curve", "accuracy_curve"]

_SEARCH_STEPS, _SEARCH_EPS_STEP = 20, 0.1
_SECOND_LOOK = 100


@dataclass(frozen=True)
class Curve:
    """Robust accuracy at each eps, smallest first, and the flags that were raised on the way.

    `attack` is the attack that each point was confirmed with; an image counts as robust where neither it nor the
    minimum-norm search fooled the model at that eps or a smaller one.
    """

    attack: str
    eps: tuple[float, ...]
    robust_accuracy: tuple[Rate, ...]
    flags: tuple[Flag, ...]

    def to_dict(self) -> dict[str, Any]:
        """The `curve` block of results.json."""
        points = zip(self.eps, self.robust_accuracy, strict=True)
        return {
            "attack": self.attack,
            "points": [{"eps": eps, "robust_accuracy": accuracy.model_dump()} for eps, accuracy in points],
        }


def accuracy_curve(
    model: nn.Module, loader: Batches, name: str, attack: Attack, eps_values: Sequence[float], *, seed: int = 0
) -> Curve:
    """The robust accuracy at each eps, from one search for the smallest eps that fools each image.

    In a process group, process r of w takes batches r, r + w, ..., as in `evaluate`.

    Args:
        model: as for `evaluate`.
        loader: as for `evaluate`; walked through twice.
        name: the attack's name.
        attack: rescaled by `robustml.attacks.at_eps`; gains most where it lets fooled images leave (`early_stop`).
        eps_values: radii in the units of the images; duplicates are dropped.
        seed: of random attacks, whose generator is made of it and the name, as in `evaluate`.

    Raises:
        RequestError: no eps at all, or what `evaluate` raises.
        RunFailed: the attack returned images outside its threat model, or not finite.
    """
    radii = sorted({float(eps) for eps in eps_values})
    if not radii:
        raise RequestError("an accuracy-against-eps curve needs at least one eps, got none")
    rungs = [at_eps(attack, eps) for eps in radii]
    clean = evaluate(model, loader, {}, _threat_of(rungs[-1]), seed=seed, examples=0).verdicts
    rungs = [rung for rung, eps in zip(rungs, radii, strict=True) if eps > 0]
    fooled_at, missed = _smallest_rungs(model, loader, name, rungs, clean.correct, seed)
    # At eps = 0 the images that nobody attacks count; those that are wrong to begin with are fooled at every eps.
    skipped = len(radii) - len(rungs)
    robust = [clean.correct & (fooled_at > number - skipped) for number in range(len(radii))]
    flags = _look_at_misses(name, rungs, missed)
    return Curve(name, tuple(radii), tuple(rate(int(each.sum()), len(each)) for each in robust), flags)


def _smallest_rungs(
    model: nn.Module, loader: Batches, name: str, rungs: Sequence[Attack], correct: Bools, seed: int
) -> tuple[Integers, int]:
    """For every image the number of the smallest eps that fools it, `len(rungs)` if none; and how many were missed.

    Missed are images that the attack did not fool at the largest eps though the middle one suffices.
    """
    rank, world_size = 0, 1
    if distributed.is_available() and distributed.is_initialized():
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    found: dict[int, tuple[Integers, int]] = {}
    first = 0
    with evaluating(model), frozen(model):
        for index, (x, y) in enumerate(loader if rungs else ()):
            attacked = torch.from_numpy(correct[first : first + len(y)])
            first += len(y)
            if index % world_size != rank:
                continue
            fooled_at, missed = torch.full((len(y),), len(rungs)), 0
            if attacked.any():
                generator = attack_generator(seed, name, device)
                climb = _Descent(model, x[attacked].to(device), y[attacked].to(device), name, rungs, generator)
                missed = climb.run(look_again=index == 0)
                fooled_at[attacked] = climb.fooled_at.cpu()
            found[index] = fooled_at.numpy(), missed
    if world_size > 1:
        gathered: list[Any] = [None] * world_size
        distributed.all_gather_object(gathered, found)
        found = {index: part for parts in gathered for index, part in parts.items()}
    parts = [found[index] for index in sorted(found)]
    if not parts:
        return np.zeros(len(correct), dtype=np.int64), 0
    return np.concatenate([fooled_at for fooled_at, _ in parts]), sum(missed for _, missed in parts)


class _Descent:
    """Finds the smallest eps that fools each image of one batch.

    Args:
        model: in eval mode.
        x: (N, ...), images that it gets right.
        y: (N,), their labels.
        name: the attack's name, for errors.
        rungs: the attack at each eps, smallest first.
        generator: what a random attack draws from, call after call.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, name: str, rungs: Sequence[Attack], generator: Generator
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.name, self.rungs, self.generator = name, rungs, generator
        self.eps = torch.tensor([_threat_of(rung).eps for rung in rungs], dtype=torch.float64, device=x.device)
        self.fooled_at = torch.full_like(y, len(rungs))

    def run(self, *, look_again: bool) -> int:
        """Fill `fooled_at`; returns how many images the attack missed at the largest eps though the middle one does.

        Args:
            look_again: without a minimum-norm search, try some survivors of the largest eps at the middle one too.
        """
        top = len(self.rungs) - 1
        middle = (top - 1) // 2
        everything = torch.arange(len(self.y), device=self.y.device)
        found = self._attack(top, everything)
        survived = self.fooled_at > top
        threat = _threat_of(self.rungs[top])
        if isinstance(threat, LpBall):
            start = torch.where(survived.view(-1, *[1] * (self.x.ndim - 1)), self.x, found)
            search = FMN(threat, steps=_SEARCH_STEPS, eps_step=_SEARCH_EPS_STEP)
            nearest = search.smallest(self.model, self.x, self.y, start=start)
            self._judge(everything, nearest, threat)
        elif look_again and middle >= 0 and survived.any():
            self._attack(middle, everything[survived][:_SECOND_LOOK])
        missed = int((survived & (self.fooled_at <= middle)).sum())
        for rung in reversed(range(top)):
            next_larger = everything[self.fooled_at == rung + 1]
            if len(next_larger):
                self._attack(rung, next_larger)
        return missed

    def _attack(self, rung: int, index: Tensor) -> Tensor:
        """Run the attack of one eps on the images at `index` (M,), and judge what it returns."""
        attack = self.rungs[rung]
        threat, x = _threat_of(attack), self.x[index]
        x_adv = attack(self.model, x, self.y[index], generator=self.generator)
        if x_adv.shape != x.shape:
            raise RunFailed(
                f"attack {self.name!r} returned shape {tuple(x_adv.shape)} for images of shape {tuple(x.shape)}"
            )
        inside = threat.contains(x_adv, x)
        if not inside.all():
            raise RunFailed(
                f"attack {self.name!r} left the threat model at eps={threat.eps:.6g} on {int((~inside).sum())} of "
                f"{len(x)} images (or returned values that are not finite)"
            )
        fooled = self._judge(index, x_adv, threat)
        self.fooled_at[index] = torch.where(fooled, self.fooled_at[index].clamp_max(rung), self.fooled_at[index])
        return x_adv

    def _judge(self, index: Tensor, x_adv: Tensor, threat: Threat) -> Tensor:
        """Classify images (M, ...), and note the smallest eps that holds those which fool the model: bool (M,)."""
        with torch.no_grad():
            fooled = logits_of(self.model, x_adv).argmax(dim=1) != self.y[index]
        rung = torch.bucketize(threat.distance(x_adv, self.x[index]).double(), self.eps)
        self.fooled_at[index] = torch.where(fooled, self.fooled_at[index].minimum(rung), self.fooled_at[index])
        return fooled


def _look_at_misses(name: str, rungs: Sequence[Attack], missed: int) -> tuple[Flag, ...]:
    """A flag where the attack misses more at the largest eps than chance explains."""
    # A larger ball holds all that a smaller one does, so there is nothing to weigh the misses against: a sign test at
    # three standard deviations, as between one step and many.
    if not missed > 3 * np.sqrt(missed):
        return ()
    large, small = _threat_of(rungs[-1]).eps, _threat_of(rungs[(len(rungs) - 2) // 2]).eps
    message = (
        f"{name} does not fool {missed} images at eps={large:.4g} that are fooled at eps={small:.4g}: a stronger "
        "attacker cannot do worse, so the attack is failing (masked gradients, or too few steps)"
    )
    return (Flag("curve_not_monotone", message, name),)


def _threat_of(attack: Attack) -> Threat:
    threat: Threat = attack.threat  # type: ignore[attr-defined]
    return threat
