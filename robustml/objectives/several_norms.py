"""Adversarial training against several attacks at once, such as one for each norm.

Tramer and Boneh, "Adversarial Training and Robustness for Multiple Perturbations", NeurIPS 2019, arXiv:1904.13000,
section 2: "max" trains on the worst of each image's adversarial examples, "average" on all of them. Any attacks do.
Deviations: with "average" the examples of all attacks pass through the model as one batch, so that batch-norm
statistics are those of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.calling import run_attack
from robustml.errors import RequestError, nearest
from robustml.modes import AttackMode, attacking
from robustml.objectives.labels import accuracy, classes_of
from robustml.types import Attack, LossOutput, Threat


@dataclass(frozen=True)
class SeveralNorms:
    """Train on the worst or on all of several attacks' examples.

    Args:
        attacks: the attacks, by the names that the logs give them; `robustml.attacks.Within` gives each a threat of its
            own, in place of the one that is trained against.
        combine: ``"max"`` keeps, for each image, the example with the highest loss, the first of those that tie;
            ``"average"`` takes the mean of the loss over all attacks, and costs as many training passes.
        label_smoothing: share of the label's mass spread evenly over all classes, in the loss that is minimised.
        attack_mode: how the model runs while examples are crafted and compared, see `robustml.modes.attacking`.

    Raises:
        RequestError: no attacks, or another way to combine them.
    """

    attacks: Mapping[str, Attack]
    combine: Literal["max", "average"] = "max"
    label_smoothing: float = 0.0
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        """Refuse what could only fail in the first step."""
        if not self.attacks:
            raise RequestError("training against several norms needs attacks, got none: objective.attacks.<name>=...")
        if self.combine not in ("max", "average"):
            raise RequestError(f"combine={self.combine!r} is unknown; {nearest(str(self.combine), ('max', 'average'))}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples for `x` (N, ...) with labels `y` (N,) or distributions (N, C).

        Returns:
            With "max" (N, ...); with "average" (K N, ...) for K attacks, those of one attack after those of another.
        """
        classes = classes_of(y)
        with attacking(model, self.attack_mode):
            crafted = torch.stack([run_attack(attack, model, x, classes, threat) for attack in self.attacks.values()])
            if self.combine == "average":
                return crafted.flatten(0, 1)
            with torch.no_grad():
                losses = [
                    functional.cross_entropy(logits_of(model, x_adv), classes, reduction="none") for x_adv in crafted
                ]
        return crafted[torch.stack(losses).argmax(0), torch.arange(len(x), device=x.device)]

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """Cross-entropy on `x_adv` (N, ...) or (K N, ...), from `perturb`, with labels `y` (N,) or (N, C)."""
        logits = logits_of(model, x_adv)
        parts = 1 if self.combine == "max" else len(self.attacks)
        repeated = torch.cat([y] * parts)
        loss = functional.cross_entropy(logits.float(), repeated, label_smoothing=self.label_smoothing)
        logs = {"adversarial_accuracy": accuracy(logits, repeated)}
        if self.combine == "average":
            for name, own in zip(self.attacks, logits.chunk(parts), strict=True):
                logs[f"adversarial_accuracy_{name}"] = accuracy(own, y)
        return LossOutput(loss, logits, logs)
