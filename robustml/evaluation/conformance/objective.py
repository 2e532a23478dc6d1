"""What every objective has to keep to: the promises of `robustml.types.Objective`, one function a property."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustml.evaluation.conformance.tiny_models import TinyModel, trained_tiny_model
from robustml.evaluation.conformance.trial import require, require_arguments_unchanged, require_finite
from robustml.evaluation.sanity.guard import Guard
from robustml.types import LossOutput, Objective, Threat


@dataclass(frozen=True)
class ObjectiveTrial:
    """The objective under examination and the threat that it trains against."""

    objective: Objective
    threat: Threat

    def tiny(self) -> TinyModel:
        """Eight digits and a model in training, whose batch norm is in eval mode, as fine-tuning has it."""
        model, x, y = trained_tiny_model()
        model.train()[1].eval()
        return TinyModel(model.requires_grad_(True), x[:8].clone(), y[:8].clone())

    def perturb(self, tiny: TinyModel) -> Tensor:
        """What it trains on."""
        return self.objective.perturb(*tiny, self.threat)

    def loss(self, tiny: TinyModel) -> LossOutput:
        """Its loss on what it makes of the images."""
        model, x, y = tiny
        return self.objective.loss(model, x, self.perturb(tiny), y, self.threat)


def _runs(trial: ObjectiveTrial) -> None:
    trial.loss(trial.tiny())


def _images(trial: ObjectiveTrial) -> None:
    tiny = trial.tiny()
    x_adv = trial.perturb(tiny)
    require(isinstance(x_adv, Tensor), f"perturb returns a {type(x_adv).__name__}, not a tensor")
    whole = x_adv.shape[1:] == tiny.x.shape[1:] and len(x_adv) > 0 and len(x_adv) % len(tiny.x) == 0
    require(whole, f"perturb returns shape {tuple(x_adv.shape)} for images of shape {tuple(tiny.x.shape)}")
    require(x_adv.dtype == tiny.x.dtype, f"perturb returns {x_adv.dtype} for images of {tiny.x.dtype}")
    require(not x_adv.requires_grad, "what perturb returns is still part of a graph: detach it")


def _model_while_crafting(trial: ObjectiveTrial) -> None:
    tiny = trial.tiny()
    guard = Guard(tiny.model)
    trial.perturb(tiny)
    # In training an attack may move running statistics, where its paper lets it: attack_mode=train.
    changed = [each for each in guard.changes() if not each.startswith("the values of")]
    require(not changed, f"perturb leaves the model changed: {', '.join(changed)}")


def _model_after_the_loss(trial: ObjectiveTrial) -> None:
    tiny = trial.tiny()
    guard, weights = Guard(tiny.model), [parameter.detach().clone() for parameter in tiny.model.parameters()]
    trial.loss(tiny)
    changed = [each for each in guard.changes() if not each.startswith("the values of")]
    require(not changed, f"the loss leaves the model changed: {', '.join(changed)}")
    same = all(torch.equal(before, now) for before, now in zip(weights, tiny.model.parameters(), strict=True))
    require(same, "the loss changes the weights: that is the optimizer's part")


def _scalar(trial: ObjectiveTrial) -> None:
    output = trial.loss(trial.tiny())
    require(output.loss.shape == (), f"expected one number as the loss, got shape {tuple(output.loss.shape)}")
    require(bool(output.loss.isfinite()), f"the loss is {output.loss.detach()}")


def _logits(trial: ObjectiveTrial) -> None:
    tiny = trial.tiny()
    shape = trial.loss(tiny).logits.shape
    require(shape[1:] == (10,) and shape[0] % len(tiny.x) == 0, f"logits have shape {tuple(shape)}, not (N, 10)")


def _logs(trial: ObjectiveTrial) -> None:
    logs = trial.loss(trial.tiny()).logs
    attached = [name for name, value in logs.items() if value.requires_grad or value.shape != ()]
    require(not attached, f"expected detached numbers to log, got others: {', '.join(attached)}")


def _gradients(trial: ObjectiveTrial) -> None:
    tiny = trial.tiny()
    trial.loss(tiny).loss.backward()  # type: ignore[no-untyped-call]
    without = [name for name, parameter in tiny.model.named_parameters() if parameter.grad is None]
    require(not without, f"no gradient reaches {', '.join(without)}")
    lost = [name for name, parameter in tiny.model.named_parameters() if not parameter.grad.isfinite().all()]  # type: ignore[union-attr]
    require(not lost, f"the gradient is not finite at {', '.join(lost)}")


def _descends(trial: ObjectiveTrial) -> None:
    """Twenty small steps on one batch; an objective may draw, so that only a clear rise counts."""
    tiny = trial.tiny()
    losses = []
    for _ in range(20):
        loss = trial.loss(tiny).loss
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, list(tiny.model.parameters()))
        for parameter, gradient in zip(tiny.model.parameters(), gradients, strict=True):
            parameter.data -= 0.01 * gradient / max(float(gradient.norm()), 1.0)
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    require(
        last <= 1.5 * abs(first) + 0.1, f"descending along its gradient raises the loss from {first:.3g} to {last:.3g}"
    )


OBJECTIVE_PROPERTIES: dict[str, Callable[[ObjectiveTrial], None]] = {
    "runs": _runs,
    "images to train on": _images,
    "finite": lambda trial: require_finite(trial.perturb(trial.tiny())),
    "arguments unchanged": lambda trial: require_arguments_unchanged(trial.tiny(), trial.loss),
    "model unchanged by crafting": _model_while_crafting,
    "model unchanged by the loss": _model_after_the_loss,
    "one finite number": _scalar,
    "logits": _logits,
    "figures to log": _logs,
    "a gradient for every weight": _gradients,
    "descends": _descends,
}
