"""AWP: descend from where a small, adversarial change of the weights has raised the loss most.

Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS 2020, arXiv:2004.05884,
algorithm 1 with one step. As in the authors' code (csdongxian/AWP), the change of a tensor is gamma times its norm
along its own gradient, and only tensors with two dimensions or more and "weight" in their name change, so no biases and
no normalisation layers; the gradient is taken with batch statistics that leave the running ones alone.

Deviations. The authors add the change to the weights, let the optimizer step there, and subtract it afterwards; here
the weights themselves never change, and the gradient found at the changed ones is applied to them. That is the same but
for weight decay, which there pulls on the changed weights and here on the weights. With several processes, each changes
its weights along the gradient of its own share of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustml.errors import RequestError
from robustml.types import LossOutput, Objective, Threat

# The authors' guard against a gradient of zero.
_TINY = 1e-20


class AWP(nn.Module):
    """Any objective, with its loss taken at adversarially changed weights. Its examples are crafted once.

    It is a module because it counts the steps, one each time that `perturb` is called, in a buffer, and so that the
    state of a wrapped objective which is a module itself is saved with checkpoints too.

    Args:
        objective: crafts the examples and computes the loss. Its `loss` is called twice a step.
        gamma: size of the change, relative to the norm of each tensor; 0.01 with adversarial training and 0.005 with
            TRADES in the paper. 0 is the objective alone.
        warmup_steps: steps that the objective makes alone at first; the authors begin TRADES-AWP with epoch 10, that
            is after 9 epochs.

    Raises:
        RequestError: `gamma` is negative or not finite, or `warmup_steps` is negative.
    """

    objective: Objective
    step: Tensor

    def __init__(self, objective: Objective, gamma: float = 0.01, warmup_steps: int = 0) -> None:
        super().__init__()
        if not 0 <= gamma < float("inf"):
            raise RequestError(f"gamma is the relative size of AWP's change of the weights, expected >= 0, got {gamma}")
        if warmup_steps < 0:
            raise RequestError(f"expected AWP's warmup_steps >= 0, got {warmup_steps}")
        self.objective = objective
        self.gamma = gamma
        self.warmup_steps = warmup_steps
        self.register_buffer("step", torch.tensor(0))
        self._done: int | None = None  # the same number where asking for it waits for no device
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """The wrapped objective's examples for `x` (N, ...); counts the step."""
        self._done = int(self.step) + 1 if self._done is None else self._done + 1
        self.step += 1
        return self.objective.perturb(model, x, y, threat)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The wrapped objective's loss, logits and figures at the changed weights, differentiable to the real ones.

        Args:
            model: in the mode in which it trains.
            x: (N, ...), the originals.
            x_adv: (N, ...), what `perturb` made of them.
            y: labels, as the wrapped objective takes them.
            threat: likewise.
        """
        done = int(self.step) if self._done is None else self._done
        if not self.gamma or (self.warmup_steps and done <= self.warmup_steps):
            return self.objective.loss(model, x, x_adv, y, threat)
        whole, batch = _LossOfModel(self.objective, model), (x, x_adv, y, threat)
        weights = {
            name: weight
            for name, weight in whole.named_parameters()
            if name.startswith("model.") and weight.requires_grad and weight.dim() > 1 and "weight" in name
        }
        changed = self._change(weights, whole, batch)
        output: LossOutput = functional_call(whole, changed, batch)
        return output

    def _change(
        self, weights: dict[str, nn.Parameter], whole: _LossOfModel, batch: tuple[Tensor, Tensor, Tensor, Threat]
    ) -> dict[str, Tensor]:
        """Each of `weights`, changed to raise the loss; the gradient with respect to it is that of the weight."""
        statistics = {name: buffer.clone() for name, buffer in whole.named_buffers() if name.startswith("model.")}
        output: LossOutput = functional_call(whole, statistics, batch)
        gradients = torch.autograd.grad(output.loss, list(weights.values()), allow_unused=True)
        changed: dict[str, Tensor] = {}
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is not None:
                size = self.gamma * weight.detach().norm() / (gradient.norm() + _TINY)
                changed[name] = weight + size * gradient
        return changed


def _forget(objective: AWP, _: object) -> None:
    objective._done = None


class _LossOfModel(nn.Module):
    """An objective's loss as the forward pass of one module, in which weights and buffers can be exchanged.

    The model itself is handed on, so that an objective may look inside it and switch its modes.
    """

    model: nn.Module
    objective: Objective

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        super().__init__()
        self.training = model.training
        self.model = model
        self.objective = objective

    def forward(self, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        return self.objective.loss(self.model, x, x_adv, y, threat)
