"""Whether a repaired model forgot its backdoor or merely hides it: two ways to call one back.

Min et al., "Uncovering, Explaining, and Mitigating the Superficial Safety of Backdoor Defense" (NeurIPS 2024,
arXiv:2410.09838): a low attack success rate is not removal. A few poisoned records bring most repaired models back to a
high one (the retuning attack), and so does a perturbation near the old trigger (the query-based attack).

Deviations: the records are learned beside the clean ones that the repair had, by Adam; the search has the gradients of
the repaired model, and looks for one perturbation of all triggered inputs within an L-infinity ball, without the
paper's regularizer that keeps it from working on a clean model. A clean twin treated alike, which every figure has
beside it, shows how much of the success is new: what the records plant, and what the perturbation does to any model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.data import Records
from robustml.defenses.repair.tuning import Tuning, copied, drawing
from robustml.errors import RequestError
from robustml.evaluation.batches import device_of
from robustml.modes import evaluating
from robustml.poisoning import Triggered
from robustml.poisoning.pixels import in_unit_range


@dataclass(frozen=True)
class Reactivation(Tuning):
    """Fine-tune on clean records and a few poisoned ones; further arguments as of `Tuning`.

    Args:
        records: how many poisoned ones.

    Raises:
        RequestError: fewer than one.
    """

    epochs: int = 5
    learning_rate: float = 0.001
    records: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.records < 1:
            raise RequestError(f"records must be at least 1, got {self.records}")

    def __call__(
        self, model: nn.Module, poisoned: Records, clean: Records, *, generator: Generator | None = None
    ) -> nn.Module:
        """The tuned copy.

        Args:
            model: the repaired one.
            poisoned: records with the trigger and the attacker's label, of which `records` are drawn.
            clean: beside them.
            generator: of the choice, and of the order.
        """
        with drawing(model, generator):
            rows = torch.randperm(len(poisoned))[: self.records]
            return self.fit(copied(model), clean.joined(poisoned.take(rows)), what="reactivation")


def searched(
    model: nn.Module,
    triggered: Triggered,
    *,
    eps: float = 8 / 255,
    steps: int = 50,
    batch_size: int = 500,
    generator: Generator | None = None,
) -> Triggered:
    """Triggered inputs under one more perturbation, that brings them nearer to the attacker's label.

    It is found on one half of the inputs, and put on the other, so that no figure is measured on what was tuned.

    Args:
        model: the repaired one, in any mode.
        triggered: what the attacker shows: inputs (K, ...), true labels and wanted ones.
        eps: the largest change of a value, inputs in [0, 1].
        steps: of signed gradient descent, each a fifth of `eps`.
        batch_size: inputs a step.
        generator: of the halves.

    Returns:
        The other half (K / 2, ...), float32 in [0, 1].
    """
    order = torch.randperm(len(triggered.y), generator=generator)
    seen, held_out = order[: len(order) // 2], order[len(order) // 2 :]
    device = device_of(model)
    x, wanted = in_unit_range(triggered.x[seen]).to(device), triggered.target[seen].to(device)
    change = torch.zeros_like(x[:1])
    with evaluating(model), crafting(model, x) as (x,):
        for step in range(steps if len(seen) else 0):
            rows = torch.arange(step * batch_size, (step + 1) * batch_size).remainder(len(x))[: len(x)]
            gradient = _gradient(model, x[rows], wanted[rows], change)
            change = (change - eps / 5 * gradient.sign()).clamp(-eps, eps)
    perturbed = (in_unit_range(triggered.x[held_out]) + change.cpu()).clamp(0, 1)
    return Triggered(perturbed, triggered.y[held_out], triggered.target[held_out])


def _gradient(model: nn.Module, x: Tensor, wanted: Tensor, change: Tensor) -> Tensor:
    """The gradient (1, ...) of the loss towards the wanted labels, with respect to the change of all inputs."""
    with torch.enable_grad():
        leaf = change.detach().requires_grad_()
        loss = functional.cross_entropy(logits_of(model, (x + leaf).clamp(0, 1)), wanted)
        (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient
