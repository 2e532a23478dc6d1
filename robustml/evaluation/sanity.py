"""Signs that an evaluation says less than it seems to: flags, each with the figure that raised it.

Sources: Athalye et al. 2018, "Obfuscated gradients give a false sense of security" (arXiv:1802.00420, section 3.1);
Carlini et al. 2019, "On evaluating adversarial robustness" (arXiv:1902.06705).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.gradient import crafting, input_gradient, logits_of
from robustml.evaluation.verdicts import Verdicts
from robustml.types import Attack

__all__ = ["Flag", "look_at_attacks", "look_at_model"]

_ZERO_GRADIENT_SHARE = 0.1


@dataclass(frozen=True)
class Flag:
    """One warning: its name, what raised it, and the attack concerned, if it is about one."""

    name: str
    message: str
    attack: str | None = None


def look_at_model(model: nn.Module, x: Tensor, y: Tensor, logits: Tensor) -> list[Flag]:
    """Flags that one batch shows: random outputs, probabilities instead of logits, vanished gradients.

    Args:
        model: in eval mode.
        x: images (N, ...) in [0, 1].
        y: labels (N,).
        logits: what the model returned for `x`.
    """
    flags = []
    with torch.no_grad():
        moved = float((logits_of(model, x) - logits).abs().max())
    if moved > 1e-4 * (1 + float(logits.abs().max())):
        message = (
            f"two forward passes on the same images differ by up to {moved:.3g}: attacks that use one gradient a step "
            "are too weak for a random model (average several, EoT)"
        )
        flags.append(Flag("random_outputs", message))
    if logits.min() >= 0 and torch.allclose(logits.sum(1), torch.ones(len(logits)).to(logits), atol=1e-4):
        message = (
            "the outputs are probabilities, not logits: cross-entropy takes softmax of softmax, and gradients vanish "
            "where the model is sure; return logits"
        )
        flags.append(Flag("probabilities", message))
    correct = logits.argmax(1) == y
    if correct.any():
        with crafting(model, x[correct], y[correct]) as (images, labels):
            gradient, _ = input_gradient(
                model, images, lambda scores: functional.cross_entropy(scores, labels, reduction="none")
            )
        share = float((gradient.flatten(1).abs().amax(1) == 0).float().mean())
        if share > _ZERO_GRADIENT_SHARE:
            message = (
                f"the input gradient is exactly zero for {share:.0%} of the images: gradient attacks cannot see this "
                "model, use the margin loss or a black-box attack"
            )
            flags.append(Flag("zero_gradients", message))
    return flags


def look_at_attacks(verdicts: Verdicts, attacks: Mapping[str, Attack]) -> list[Flag]:
    """Flags that attacks show beside each other: one step that fools clearly more images than many steps do."""
    flags = []
    steps = {name: int(getattr(attack, "steps", 0)) for name, attack in attacks.items()}
    for one in (name for name in attacks if steps[name] == 1):
        for many in (name for name in attacks if steps[name] > 1):
            only_one = int((~verdicts.attacks[one].robust & verdicts.attacks[many].robust).sum())
            only_many = int((verdicts.attacks[one].robust & ~verdicts.attacks[many].robust).sum())
            # A sign test at three standard deviations on the images where the two disagree.
            if only_one - only_many > 3 * np.sqrt(only_one + only_many):
                message = (
                    f"{one} (one step) fools {only_one} images that {many} ({steps[many]} steps) does not, and only "
                    f"{only_many} the other way round: a sign of masked gradients, or of steps that are too small"
                )
                flags.append(Flag("one_step_beats_many", message, many))
    return flags
