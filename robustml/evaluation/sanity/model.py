"""Signs that an evaluation says less than it seems to: flags, each with the figure that raised it.

Sources: Athalye et al. 2018, "Obfuscated gradients give a false sense of security" (arXiv:1802.00420, section 3.1);
Carlini et al. 2019, "On evaluating adversarial robustness" (arXiv:1902.06705, section 5).

| flag | what it takes |
|---|---|
| random_outputs | the same images give other logits: noise, random resizing |
| batch_dependent | an image gets other logits beside other images, or alone |
| probabilities | the outputs are a softmax |
| sigmoid_outputs | the outputs are in [0, 1] and no softmax |
| no_gradients | the model cannot be differentiated at all |
| zero_gradients | the gradient of the cross-entropy is zero: rounding, saturation |
| saturated_logits | it is zero although that of the margin is not: float32 cannot hold the tail of the softmax |
| shattered_gradients | the loss does not rise along its own gradient, by far not as predicted |
| unbounded_attack_fails | an attack that may change everything does not fool everything |

Those that attacks raise beside each other are in `robustml.evaluation.sanity.rivals`, those of the clean predictions in
`predictions`, those of budgets in `budget`, and those of what attacks leave behind in `crafting`.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks import PGD, Goal
from robustml.attacks.engine.gradient import crafting, input_gradient, logits_of
from robustml.attacks.engine.losses import adversarial_lead
from robustml.errors import RequestError
from robustml.results import Flag
from robustml.threats import LpBall
from robustml.types import Threat

# Shares of images, rough on purpose: a flag says "look", a sound model is nowhere near.
_ZERO_GRADIENT_SHARE = 0.1
_SHATTERED_SHARE = 0.5
_UNBOUNDED_SHARE = 0.05
# What is cheap and what is telling: a hundred images for each look.
_LOOKED_AT = 100
# How far a logit may move from one size of batch to another, as a share of the largest.
_ROUNDING = 0.01


def look_at_model(model: nn.Module, x: Tensor, y: Tensor, logits: Tensor) -> list[Flag]:
    """Flags that a few images show: random outputs, probabilities instead of logits, gradients that lead nowhere.

    Args:
        model: in eval mode.
        x: images (N, ...) in [0, 1].
        y: labels (N,).
        logits: what the model returned for `x`.
    """
    few = x[:_LOOKED_AT]
    with torch.no_grad():
        answered = logits_of(model, few)
    flags = _random_outputs(model, few, answered)
    is_random = bool(flags)
    if not is_random:
        flags += _batch_dependence(model, few, answered)
    flags += _squashed(logits)
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
    box = LpBall(math.inf, high - low, threat.bounds)
    attack = PGD(steps=50, random_start=False, early_stop=True)
    with torch.no_grad():
        share = float((logits_of(model, attack(model, x, y, box, generator=generator)).argmax(1) == y).float().mean())
    if share <= _UNBOUNDED_SHARE:
        return []
    message = (
        f"PGD that may change every value to anything (L-infinity, eps={high - low:g}) leaves {share:.0%} of {len(x)} "
        "images as they were classified; at that eps any image can be turned into any other, so the gradients do not "
        "lead there, and the accuracy at smaller eps is not to be believed"
    )
    return [Flag(name="unbounded_attack_fails", message=message)]


def _first_correct(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) == y).nonzero().squeeze(1)[:_LOOKED_AT]


def _random_outputs(model: nn.Module, x: Tensor, logits: Tensor) -> list[Flag]:
    moved = 0.0
    # Several times: a defense that picks one of a few sizes picks the same one twice now and then.
    for _ in range(4):
        with torch.no_grad():
            moved = max(moved, float((logits_of(model, x) - logits).abs().max()))
        if moved > 1e-4 * (1 + float(logits.abs().max())):
            message = (
                f"two forward passes on the same images differ by up to {moved:.3g}: attacks that use one gradient a "
                "step are too weak for a random model (average several, EoT)"
            )
            return [Flag(name="random_outputs", message=message)]
    return []


def _batch_dependence(model: nn.Module, x: Tensor, logits: Tensor) -> list[Flag]:
    """The flag of a model that gives images (N, ...) other `logits` (N, C) in halves of the batch, or one by one."""
    if len(x) < 2:
        return []
    moved, alone = 0.0, x[: min(len(x), 8)]
    try:
        with torch.no_grad():
            for rows in (slice(0, None, 2), slice(1, None, 2)):
                moved = max(moved, float((logits_of(model, x[rows]) - logits[rows]).abs().max()))
            for row in range(len(alone)):
                moved = max(moved, float((logits_of(model, alone[row : row + 1]) - logits[row]).abs().max()))
    except RequestError:
        raise
    except Exception as error:  # batch norm without running statistics takes no single example
        how = f"the model takes no smaller batch ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    else:
        # Half precision rounds differently from one size of batch to another.
        if moved <= _ROUNDING * (1 + float(logits.abs().max())):
            return []
        how = f"the logits of an image move by up to {moved:.3g} with the images beside it in the batch"
    message = (
        f"{how}: batch normalisation without running statistics, or a norm over the whole batch? The figures depend on "
        "the size and the order of the batches, and an attack on one image moves the others"
    )
    return [Flag(name="batch_dependent", message=message)]


def _squashed(logits: Tensor) -> list[Flag]:
    """The flag of outputs (N, C) that have gone through a softmax or a sigmoid already."""
    if not len(logits) or logits.min() < 0:
        return []
    if torch.allclose(logits.sum(1), torch.ones(len(logits)).to(logits), atol=1e-4):
        message = (
            "the outputs are probabilities, not logits: cross-entropy takes softmax of softmax, and gradients vanish "
            "where the model is sure; return logits"
        )
        return [Flag(name="probabilities", message=message)]
    if logits.max() <= 1:
        message = (
            f"all outputs lie in [0, 1] ({float(logits.min()):.3g} to {float(logits.max()):.3g}), as after a sigmoid: "
            "its gradient vanishes where the model is sure, and attacks fail for it; return the logits before the "
            "sigmoid, or attack with loss=margin and without gradients too (attack=square)"
        )
        return [Flag(name="sigmoid_outputs", message=message)]
    return []


def _differentiable(model: nn.Module, x: Tensor) -> bool:
    """Whether the logits depend on the input in a way that autograd can follow."""
    with crafting(model, x[:2]) as (images,), torch.enable_grad():
        return logits_of(model, images.requires_grad_()).requires_grad


def _useless_gradients(model: nn.Module, x: Tensor, y: Tensor, is_random: bool) -> list[Flag]:
    """Flags about the gradients at images (N, ...) that are classified as their labels `y` say."""
    if not _differentiable(model, x):
        message = (
            "the outputs cannot be differentiated with respect to the images (a detached or rounded tensor, NumPy): "
            "gradient attacks cannot run, use a black-box attack"
        )
        return [Flag(name="no_gradients", message=message)]
    flags = []
    goal = Goal(y)
    gradient, _ = input_gradient(model, x, lambda scores: functional.cross_entropy(scores, y, reduction="none"))
    uphill, logits = input_gradient(model, x, lambda scores: adversarial_lead(scores, goal))
    is_zero = gradient.flatten(1).abs().amax(1) == 0
    if (share := float(is_zero.float().mean())) > _ZERO_GRADIENT_SHARE:
        message = (
            f"the input gradient is exactly zero for {share:.0%} of the images: gradient attacks cannot see this "
            "model, use the margin loss or a black-box attack"
        )
        flags.append(Flag(name="zero_gradients", message=message))
    saturated = is_zero & (uphill.flatten(1).abs().amax(1) > 0)
    if (share := float(saturated.float().mean())) > _ZERO_GRADIENT_SHARE:
        message = (
            f"for {share:.0%} of the images the cross-entropy has no gradient and the margin of the logits has: logits "
            f"of up to {float(logits.abs().max()):.3g} saturate the softmax in float32; attack with loss=margin or dlr"
        )
        flags.append(Flag(name="saturated_logits", message=message))
    if not is_random and (share := _share_shattered(model, x, goal, uphill, logits)) > _SHATTERED_SHARE:
        message = (
            f"for {share:.0%} of the images the loss rises by less than a fifth of what its gradient predicts, for a "
            "step of 0.001 as for one of 0.01: the gradient is noise, use a black-box attack or a smooth stand-in"
        )
        flags.append(Flag(name="shattered_gradients", message=message))
    return flags


def _share_shattered(model: nn.Module, x: Tensor, goal: Goal, uphill: Tensor, logits: Tensor) -> float:
    """For how many of the images with a gradient a wrong class gains by far less along it than it predicts.

    Inside a linear region the ratio is 1; the better of two step lengths counts, for a kink or a step of quantisation
    may lie within either.
    """
    before = adversarial_lead(logits, goal)
    best = torch.full_like(before, -torch.inf)
    for size in (1e-3, 1e-2):
        step = (x + size * uphill.sign()).clamp(0, 1) - x
        predicted = (step * uphill).flatten(1).sum(1)
        real = adversarial_lead(logits_of(model, x + step), goal) - before
        # Below that, the difference of two logits is rounding.
        audible = predicted > 1e-5 * (1 + logits.abs().amax(1))
        best = torch.where(audible, torch.maximum(best, real / predicted), best)
    judged = best > -torch.inf
    return float((best[judged] < 0.2).float().mean()) if judged.any() else 0.0
