"""Signs that an evaluation says less than it seems to: flags, each with the figure that raised it.

Sources: Athalye et al. 2018, "Obfuscated gradients give a false sense of security" (arXiv:1802.00420, section 3.1);
Carlini et al. 2019, "On evaluating adversarial robustness" (arXiv:1902.06705, section 5).

| flag | what it takes |
|---|---|
| random_outputs | the same images give other logits: noise, random resizing |
| probabilities | the outputs are a softmax |
| no_gradients | the model cannot be differentiated at all |
| zero_gradients | the gradient of the cross-entropy is zero: rounding, saturation |
| saturated_logits | it is zero although that of the margin is not: float32 cannot hold the tail of the softmax |
| shattered_gradients | the loss does not rise along its own gradient, by far not as predicted |
| unbounded_attack_fails | an attack that may change everything does not fool everything |
| one_step_beats_many | FGSM fools what PGD does not |
| black_box_beats_white_box | an attack without gradients fools what those with gradients do not |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks import PGD, Goal
from robustml.attacks.gradient import crafting, input_gradient, logits_of
from robustml.attacks.losses import margin
from robustml.evaluation.verdicts import Bools, Verdicts
from robustml.threats import LpBall
from robustml.types import Attack, Threat

__all__ = ["Flag", "look_at_attacks", "look_at_limits", "look_at_model"]

# Shares of images, rough on purpose: a flag says "look", a sound model is nowhere near.
_ZERO_GRADIENT_SHARE = 0.1
_SHATTERED_SHARE = 0.5
_UNBOUNDED_SHARE = 0.05
# As the authors of AutoAttack have it in their own check of what Square adds.
_ADDED_SHARE = 0.002
# What is cheap and what is telling: a hundred images for each look.
_LOOKED_AT = 100


@dataclass(frozen=True)
class Flag:
    """One warning: its name, what raised it, and the attack concerned, if it is about one."""

    name: str
    message: str
    attack: str | None = None


def look_at_model(model: nn.Module, x: Tensor, y: Tensor, logits: Tensor) -> list[Flag]:
    """Flags that one batch shows: random outputs, probabilities instead of logits, gradients that lead nowhere.

    Args:
        model: in eval mode.
        x: images (N, ...) in [0, 1].
        y: labels (N,).
        logits: what the model returned for `x`.
    """
    flags = _random_outputs(model, x[:_LOOKED_AT], logits[:_LOOKED_AT])
    is_random = bool(flags)
    if logits.min() >= 0 and torch.allclose(logits.sum(1), torch.ones(len(logits)).to(logits), atol=1e-4):
        message = (
            "the outputs are probabilities, not logits: cross-entropy takes softmax of softmax, and gradients vanish "
            "where the model is sure; return logits"
        )
        flags.append(Flag("probabilities", message))
    correct = _first_correct(logits, y)
    if len(correct) and logits.shape[1] > 1:
        with crafting(model, x[correct], y[correct]) as (images, labels):
            flags += _useless_gradients(model, images, labels, is_random)
    return flags


def look_at_limits(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: Generator | None = None
) -> list[Flag]:
    """The flag of an attack that may change everything and still does not fool: PGD-50 within the whole image box.

    The box is the same in every norm, so that steps along the sign of the gradient serve for all threats. It starts at
    the images themselves: random noise for a start would fool most models without any gradient.

    Args:
        model: in eval mode.
        x: images (N, ...) in [0, 1]; the first hundred that are classified correctly are attacked.
        y: labels (N,).
        threat: its `bounds` say how far every value may go.
        generator: handed to the attack.
    """
    with torch.no_grad():
        correct = _first_correct(logits_of(model, x), y)
    x, y = x[correct], y[correct]
    if not len(x) or not _differentiable(model, x):
        return []
    low, high = threat.bounds
    box = cast(Threat, LpBall(math.inf, high - low, threat.bounds))
    attack = PGD(box, steps=50, random_start=False, early_stop=True)
    with torch.no_grad():
        share = float((logits_of(model, attack(model, x, y, generator=generator)).argmax(1) == y).float().mean())
    if share <= _UNBOUNDED_SHARE:
        return []
    message = (
        f"PGD that may change every value to anything (L-infinity, eps={high - low:g}) leaves {share:.0%} of {len(x)} "
        "images as they were classified; at that eps any image can be turned into any other, so the gradients do not "
        "lead there, and the accuracy at smaller eps is not to be believed"
    )
    return [Flag("unbounded_attack_fails", message)]


def look_at_attacks(verdicts: Verdicts, attacks: Mapping[str, Attack], *, cascade: bool = False) -> list[Flag]:
    """Flags that attacks show beside each other.

    One step that fools clearly more images than many steps do; an attack without gradients (one with a true attribute
    `black_box`) that fools clearly more than all others together, or, in a cascade, more than a few of those that
    every attack with gradients had left.

    Args:
        verdicts: what each attack did to the same images. Attacks that did not come to all of them are left out.
        attacks: the attacks themselves.
        cascade: each attack saw only what those before it had left, so that no two can be compared.
    """
    attacks = {name: attack for name, attack in attacks.items() if not verdicts.attacks[name].pending}
    if cascade:
        return _added_without_gradients(verdicts, attacks)
    flags = []
    steps = {name: int(getattr(attack, "steps", 0)) for name, attack in attacks.items()}
    fooled = {name: ~verdicts.attacks[name].robust for name in attacks}
    for one in (name for name in attacks if steps[name] == 1):
        for many in (name for name in attacks if steps[name] > 1):
            only_one, only_many = _disagreement(fooled[one], fooled[many])
            if _clearly_more(only_one, only_many):
                message = (
                    f"{one} (one step) fools {only_one} images that {many} ({steps[many]} steps) does not, and only "
                    f"{only_many} the other way round: a sign of masked gradients, or of steps that are too small"
                )
                flags.append(Flag("one_step_beats_many", message, many))
    black = [name for name, attack in attacks.items() if getattr(attack, "black_box", False)]
    white = [name for name in attacks if name not in black]
    for name in black if white else []:
        only_black, only_white = _disagreement(fooled[name], np.logical_or.reduce([fooled[other] for other in white]))
        if _clearly_more(only_black, only_white):
            message = (
                f"{name}, which sees no gradient, fools {only_black} images that {', '.join(white)} do not, and only "
                f"{only_white} the other way round: the gradients are masked"
            )
            flags.append(Flag("black_box_beats_white_box", message, name))
    return flags


def _added_without_gradients(verdicts: Verdicts, attacks: Mapping[str, Attack]) -> list[Flag]:
    flags: list[Flag] = []
    white: list[str] = []
    left = verdicts.correct
    for name, attack in attacks.items():
        after = left & verdicts.attacks[name].robust
        added = int((left & ~after).sum())
        if not getattr(attack, "black_box", False):
            white.append(name)
        elif white and added > max(1, _ADDED_SHARE * len(left)):
            message = (
                f"{name}, which sees no gradient, fools {added} of the {int(left.sum())} images that "
                f"{', '.join(white)} had left: a sign of masked gradients"
            )
            flags.append(Flag("black_box_beats_white_box", message, name))
        left = after
    return flags


def _disagreement(first: Bools, second: Bools) -> tuple[int, int]:
    """How many images only the one and only the other attack fooled."""
    return int((first & ~second).sum()), int((~first & second).sum())


def _clearly_more(first: int, second: int) -> bool:
    """A sign test at three standard deviations on the images where two attacks disagree."""
    return first - second > 3 * math.sqrt(first + second)


def _first_correct(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) == y).nonzero().squeeze(1)[:_LOOKED_AT]


def _random_outputs(model: nn.Module, x: Tensor, logits: Tensor) -> list[Flag]:
    moved = 0.0
    # Several times: a defence that picks one of a few sizes picks the same one twice now and then.
    for _ in range(4):
        with torch.no_grad():
            moved = max(moved, float((logits_of(model, x) - logits).abs().max()))
        if moved > 1e-4 * (1 + float(logits.abs().max())):
            message = (
                f"two forward passes on the same images differ by up to {moved:.3g}: attacks that use one gradient a "
                "step are too weak for a random model (average several, EoT)"
            )
            return [Flag("random_outputs", message)]
    return []


def _differentiable(model: nn.Module, x: Tensor) -> bool:
    """Whether the logits depend on the input in a way that autograd can follow."""
    with crafting(model, x[:1]) as (image,), torch.enable_grad():
        return logits_of(model, image.requires_grad_()).requires_grad


def _useless_gradients(model: nn.Module, x: Tensor, y: Tensor, is_random: bool) -> list[Flag]:
    """Flags about the gradients at images (N, ...) that are classified as their labels `y` say."""
    if not _differentiable(model, x):
        message = (
            "the outputs cannot be differentiated with respect to the images (a detached or rounded tensor, NumPy): "
            "gradient attacks cannot run, use a black-box attack"
        )
        return [Flag("no_gradients", message)]
    flags = []
    goal = Goal(y)
    gradient, _ = input_gradient(model, x, lambda scores: functional.cross_entropy(scores, y, reduction="none"))
    uphill, logits = input_gradient(model, x, lambda scores: margin(scores, goal))
    is_zero = gradient.flatten(1).abs().amax(1) == 0
    if (share := float(is_zero.float().mean())) > _ZERO_GRADIENT_SHARE:
        message = (
            f"the input gradient is exactly zero for {share:.0%} of the images: gradient attacks cannot see this "
            "model, use the margin loss or a black-box attack"
        )
        flags.append(Flag("zero_gradients", message))
    saturated = is_zero & (uphill.flatten(1).abs().amax(1) > 0)
    if (share := float(saturated.float().mean())) > _ZERO_GRADIENT_SHARE:
        message = (
            f"for {share:.0%} of the images the cross-entropy has no gradient and the margin of the logits has: logits "
            f"of up to {float(logits.abs().max()):.3g} saturate the softmax in float32; attack with loss=margin or dlr"
        )
        flags.append(Flag("saturated_logits", message))
    if not is_random and (share := _share_shattered(model, x, goal, uphill, logits)) > _SHATTERED_SHARE:
        message = (
            f"for {share:.0%} of the images the loss rises by less than a fifth of what its gradient predicts, for a "
            "step of 0.001 as for one of 0.01: the gradient is noise, use a black-box attack or a smooth stand-in"
        )
        flags.append(Flag("shattered_gradients", message))
    return flags


def _share_shattered(model: nn.Module, x: Tensor, goal: Goal, uphill: Tensor, logits: Tensor) -> float:
    """For how many of the images with a gradient the margin does not rise along it nearly as far as it predicts.

    Inside a linear region the ratio is 1; the better of two step lengths counts, for a kink or a step of quantisation
    may lie within either.
    """
    before = margin(logits, goal)
    best = torch.full_like(before, -torch.inf)
    for size in (1e-3, 1e-2):
        step = (x + size * uphill.sign()).clamp(0, 1) - x
        predicted = (step * uphill).flatten(1).sum(1)
        real = margin(logits_of(model, x + step), goal) - before
        # Below that, the difference of two logits is rounding.
        audible = predicted > 1e-5 * (1 + logits.abs().amax(1))
        best = torch.where(audible, torch.maximum(best, real / predicted), best)
    judged = best > -torch.inf
    return float((best[judged] < 0.2).float().mean()) if judged.any() else 0.0
