"""Whether a repair removed a backdoor or only covered it: two ways to call it back.

Min, Qin, Zhang, Chen and Cheng, "Uncovering, Explaining, and Mitigating the Superficial Safety of Backdoor Defense"
(NeurIPS 2024, arXiv:2410.09838): fine-tuning on a handful of poisoned records, and a perturbation of the triggered
inputs that is the same for all of them. A clean model can be poisoned anew, and misled, too: compare with the repaired
twin.

Deviations: white-box access for the search, where the paper asks the backdoored model's queries; few steps.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import crafting, input_gradient
from robustml.defenses.reading import require_classes
from robustml.defenses.repair.tuning import Rows, Tuning, copied, drawing
from robustml.evaluation.batches import device_of
from robustml.modes import evaluating
from robustml.poisoning import Triggered
from robustml.poisoning.pixels import in_unit_range, stored_within
from robustml.progress import track
from robustml.types import Labelled

RETUNING = Tuning(epochs=10, learning_rate=0.001)
"""How `reactivated` fine-tunes, unless it is told otherwise."""


def reactivated(
    model: nn.Module,
    poisoned: Labelled,
    clean: Labelled | None = None,
    *,
    tuning: Tuning = RETUNING,
    generator: Generator | None = None,
) -> nn.Module:
    """A copy of the model, fine-tuned on a handful of poisoned records, labels as poisoned, and on clean ones.

    Args:
        model: a repaired one.
        poisoned: the handful.
        clean: shown beside them, so that the model does not forget its task; None for none.
        tuning: how long and how fast.
        generator: of the order.

    Raises:
        RequestError: a label is beyond the model's classes.
    """
    require_classes(model, poisoned)
    parts = [poisoned] if clean is None else [poisoned, clean]
    rows = Rows(*(torch.cat([getattr(each, name) for each in parts]) for name in ("x", "y", "ids")))
    with drawing(model, generator):
        return tuning.fit(copied(model), rows, what="reactivating")


def searched(
    model: nn.Module, triggered: Triggered, others: Triggered | None = None, *, eps: float = 8 / 255, steps: int = 40
) -> Triggered:
    """Triggered inputs under a trigger near the old one, as near as `eps` in every value.

    One perturbation for all of them, by signed gradient steps on their mean cross-entropy with the wanted label; the
    best of the steps counts. It is stored as the inputs are, bytes within eps.

    Args:
        model: a repaired one; run in eval mode and left as found.
        triggered: inputs (K, ...) with the old trigger, and what the attacker wants.
        others: the inputs that get the trigger that is found, such as some that the search has not seen; by default
            those it was found on.
        eps: the largest change of a value, of a range of 1.
        steps: of the search, each 2.5 / steps of eps.
    """
    device = device_of(model)
    target = triggered.target.to(device)

    def loss(logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, reduction="none")

    with evaluating(model), crafting(model, in_unit_range(triggered.x).to(device)) as (x,):
        delta = best = torch.zeros_like(x[:1])
        most = -1
        for _ in track(range(steps + 1), "searching for a trigger"):
            gradient, logits = input_gradient(model, (x + delta).clamp(0, 1), loss)
            if (count := int((logits.argmax(1) == target).sum())) > most:
                most, best = count, delta
            delta = (delta - 2.5 * eps / steps * gradient.sum(0, keepdim=True).sign()).clamp(-eps, eps)
    shown = others or triggered
    moved = (in_unit_range(shown.x) + best.to(shown.x.device)).clamp(0, 1)
    return shown._replace(x=stored_within(moved, shown.x))
