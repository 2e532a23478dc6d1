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

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import AllowInfNan, Field
from torch import Generator, Tensor, nn

from robustml.attacks import FMN
from robustml.attacks.engine.gradient import logits_of
from robustml.calling import has_own_budget, refuse_misfit
from robustml.errors import RequestError
from robustml.evaluation.batches import Batches, Loader, device_of
from robustml.evaluation.crafting import Crafting
from robustml.evaluation.evaluator import evaluate
from robustml.evaluation.parameters import attack_generator
from robustml.evaluation.processes import gathered, rank_and_world_size
from robustml.evaluation.verdicts import Bools, Integers
from robustml.models import as_module
from robustml.models.fitted import fitted
from robustml.modes import evaluating, frozen
from robustml.progress import track
from robustml.results import Curve, CurvePoint, Flag, share
from robustml.threats import LpBall
from robustml.types import Attack, Threat

SEARCH = "fmn"
"""What the minimum-norm search of a curve is called beside the attacks of the run."""
_SEARCH_STEPS, _SEARCH_EPS_STEP = 20, 0.1
_SECOND_LOOK = 100


class CurveResults(Curve):
    """The curve that results.json holds, smallest eps first, and beside it what no file does.

    An image counts as robust at an eps where nothing in `attacks` (the attack, the minimum-norm search) fooled the
    model at that eps or a smaller one.

    Attributes:
        flags: what to doubt.
        images: the identity of each image.
        smallest: the smallest eps that fools it; infinite where none does, -1 where it is wrong to begin with.
    """

    flags: list[Flag] = Field(exclude=True)
    images: list[int] = Field(exclude=True, repr=False)
    smallest: list[Annotated[float, AllowInfNan(True)]] = Field(exclude=True, repr=False)


def accuracy_curve(
    model: Callable[[Tensor], Any],
    loader: Loader,
    name: str,
    attack: Attack,
    threat: Threat,
    eps_values: Sequence[float],
    *,
    seed: int = 0,
) -> CurveResults:
    """The robust accuracy at each eps, from one search for the smallest eps that fools each image.

    In a process group, process r of w takes batches r, r + w, ..., as in `evaluate`.

    Args:
        model: as for `evaluate`.
        loader: as for `evaluate`; walked through twice.
        name: the attack's name.
        attack: takes its threat with the call; gains most where it lets fooled images leave (`early_stop`).
        threat: what the attacker may do; its own eps is not looked at.
        eps_values: radii in the units of the images; duplicates are dropped.
        seed: of random attacks, whose generator is made of it and the name, as in `evaluate`.

    Raises:
        RequestError: no eps at all, an attack that carries a budget of its own, or what `evaluate` raises.
        RunFailed: the attack returned images outside its threat model, or not finite.
    """
    radii = sorted({float(eps) for eps in eps_values})
    if not radii:
        raise RequestError("an accuracy-against-eps curve needs at least one eps, got none")
    if has_own_budget(attack):
        raise RequestError(f"{name} carries its own budget and cannot be run at another eps: let it take `threat`")
    rungs = [threat.at(eps) for eps in radii]
    refuse_misfit(attack, rungs[-1])
    model = as_module(model)
    batches = Batches(loader, device_of(model), *rank_and_world_size())
    clean = evaluate(model, batches, {}, rungs[-1], seed=seed, examples=0).verdicts
    rungs = [rung for rung in rungs if rung.eps > 0]
    fooled_at, missed, flags = _smallest_rungs(model, batches, name, attack, rungs, clean.correct, seed)
    # At eps = 0 the images that nobody attacks count; those that are wrong to begin with are fooled at every eps.
    skipped = len(radii) - len(rungs)
    robust = [clean.correct & (fooled_at > number - skipped) for number in range(len(radii))]
    smallest = np.where(clean.correct, np.array([*radii, np.inf])[fooled_at + skipped], -1.0)
    searched = bool(rungs) and isinstance(rungs[-1], LpBall)
    return CurveResults(
        attack=name,
        attacks=[name, SEARCH] if searched else [name],
        points=[CurvePoint(eps=eps, robust_accuracy=share(each)) for eps, each in zip(radii, robust, strict=True)],
        flags=[*_look_at_misses(name, rungs, missed), *flags],
        images=cast(Integers, clean.images).tolist(),
        smallest=smallest.tolist(),
    )


def _smallest_rungs(
    model: nn.Module,
    batches: Batches,
    name: str,
    attack: Attack,
    rungs: Sequence[Threat],
    correct: Bools,
    seed: int,
) -> tuple[Integers, int, list[Flag]]:
    """For every image the number of the smallest eps that fools it, `len(rungs)` if none; how many were missed; flags.

    Missed are images that the attack did not fool at the largest eps though the middle one suffices.
    """
    device = device_of(model)
    found: dict[int, tuple[Integers, int]] = {}
    with torch.inference_mode(False), evaluating(model), frozen(model):
        crafting, judged = Crafting(model, device), None
        try:
            for batch in track(batches, f"curve of {name}") if rungs else ():
                x, y = batch.x, batch.y
                if judged is None:
                    judged = fitted(model, x[:2])
                    crafting.after_clean_pass()
                attacked = torch.from_numpy(correct[batch.first : batch.first + len(y)]).to(device)
                fooled_at, missed = torch.full((len(y),), len(rungs)), 0
                if attacked.any():
                    generator = attack_generator(seed, name, device)
                    craft = partial(crafting, name, attack)
                    climb = _Descent(judged, x[attacked], y[attacked], craft, rungs, generator)
                    missed = climb.run(look_again=batch.number == 0)
                    fooled_at[attacked.cpu()] = climb.fooled_at.cpu()
                found[batch.number] = fooled_at.numpy(), missed
        finally:
            crafting.restore()
    everything = gathered((found, list(crafting.flags.values())))
    flags = list(dict.fromkeys(flag for _, raised in everything for flag in raised))
    found = {index: part for parts, _ in everything for index, part in parts.items()}
    parts = [found[index] for index in sorted(found)]
    if not parts:
        return np.zeros(len(correct), dtype=np.int64), 0, flags
    return np.concatenate([fooled_at for fooled_at, _ in parts]), sum(missed for _, missed in parts), flags


class _Descent:
    """Finds the smallest eps that fools each image of one batch.

    Args:
        model: in eval mode.
        x: (N, ...), images that it gets right.
        y: (N,), their labels.
        craft: runs the attack, checks what it returns, and undoes what it did to the model.
        rungs: the threat at each eps, smallest first.
        generator: what a random attack draws from, call after call.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        craft: Callable[..., Tensor],
        rungs: Sequence[Threat],
        generator: Generator,
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.craft, self.rungs, self.generator = craft, rungs, generator
        self.eps = torch.tensor([rung.eps for rung in rungs], dtype=torch.float64, device=x.device)
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
        threat = self.rungs[top]
        if isinstance(threat, LpBall):
            start = torch.where(survived.view(-1, *[1] * (self.x.ndim - 1)), self.x, found)
            search = FMN(steps=_SEARCH_STEPS, eps_step=_SEARCH_EPS_STEP)
            nearest = search.smallest(self.model, self.x, self.y, threat, start=start)
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
        threat, x = self.rungs[rung], self.x[index]
        x_adv = self.craft(self.model, x, self.y[index], threat, self.generator)
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


def _look_at_misses(name: str, rungs: Sequence[Threat], missed: int) -> list[Flag]:
    """A flag where the attack misses more at the largest eps than chance explains."""
    # A larger ball holds all that a smaller one does, so there is nothing to weigh the misses against: a sign test at
    # three standard deviations, as between one step and many.
    if not missed > 3 * np.sqrt(missed):
        return []
    large, small = rungs[-1].eps, rungs[(len(rungs) - 2) // 2].eps
    message = (
        f"{name} does not fool {missed} images at eps={large:.4g} that are fooled at eps={small:.4g}: a stronger "
        "attacker cannot do worse, so the attack is failing (masked gradients, or too few steps)"
    )
    return [Flag(name="curve_not_monotone", message=message, attack=name)]
