"""I-BAU: unlearn the universal perturbation that misleads the model most, with the gradient through its search.

Zeng, Chen, Park, Mao, Jin and Jia, "Adversarial Unlearning of Backdoors via Implicit Hypergradient" (ICLR 2022,
arXiv:2110.03735): minimise over the weights the loss ``H(delta, w)`` of clean records under the universal ``delta``
that maximises it. Since delta depends on the weights, the gradient has a second part; it is that of a fixed point of
one step of the search, ``delta = F(delta, w)``, and ``v = v dF/ddelta + dH/ddelta`` is solved by a few iterations.

Deviations: the loss under delta and the loss without it weigh the same, so that clean accuracy holds on few records;
the model is in eval mode throughout, so that batch norm keeps its statistics; the perturbed inputs are not cut to [0,
1]; the search ascends along its normalised gradient, the map F is a plain step of `inner_step` on the regularised
loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.defenses.reading import require_classes, require_clean
from robustml.defenses.repair.tuning import Tuning, copied, cross_entropy, drawing
from robustml.errors import RequestError
from robustml.evaluation.batches import device_of
from robustml.types import Labelled


@dataclass(frozen=True)
class IBAU(Tuning):
    """Adversarial unlearning on the clean records; a perturbation is searched for in each batch.

    Further arguments are those of `Tuning`, for the weights.

    Args:
        radius: the longest delta, as its L2 norm over the square root of how many values an input has.
        inner_steps: of the search, each a fifth of the radius long.
        iterations: of the fixed point; 0 leaves the second part of the gradient out (plain adversarial training).
        inner_step: the step of the map whose fixed point delta is.
        penalty: of the squared norm of delta in that map.
    """

    learning_rate: float = 0.003
    radius: float = 0.2
    inner_steps: int = 5
    iterations: int = 5
    inner_step: float = 0.1
    penalty: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("radius", "inner_step"):
            if not getattr(self, name) > 0:
                raise RequestError(f"{name} must be above 0, got {getattr(self, name)}")
        self._at_least(0, "inner_steps", "iterations", "penalty")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """The model that has unlearned; `records` are not looked at.

        Raises:
            RequestError: there are no clean records, or the model was trained on other classes.
        """
        clean = require_clean(clean, "I-BAU", 2)
        require_classes(model, clean)
        with drawing(model, generator):
            found = copied(model).eval()
            parameters = [*found.parameters()]
            optimizer = self.optimizing(parameters)
            for left, x, y in self.batches(clean, device_of(found), "unlearning"):
                delta = self.worst(found, x, y)
                optimizer.zero_grad()
                torch.autograd.backward(cross_entropy(found, x, y))
                for parameter, gradient in zip(parameters, self.hypergradient(found, x, y, delta), strict=True):
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * left
                optimizer.step()
            found.zero_grad()
            return found

    def worst(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The universal perturbation (1, ...), by gradient ascent within the radius."""
        delta = torch.zeros_like(x[:1])
        longest = self.radius * delta.numel() ** 0.5
        for _ in range(self.inner_steps):
            (gradient,) = torch.autograd.grad(cross_entropy(model, x + delta.requires_grad_(), y), delta)
            delta = delta.detach() + longest / 5 * gradient / gradient.norm().clamp_min(1e-12)
            delta = delta * (longest / delta.norm().clamp_min(1e-12)).clamp_max(1)
        return delta

    def hypergradient(self, model: nn.Module, x: Tensor, y: Tensor, delta: Tensor) -> list[Tensor]:
        """The gradient with respect to every parameter of the loss under the delta that depends on them."""
        parameters = [*model.parameters()]
        delta = delta.detach().requires_grad_()
        loss = functional.cross_entropy(logits_of(model, x + delta), y)
        # Twice differentiable: the step of the search holds the first derivative.
        slope, *direct = torch.autograd.grad(loss, [delta, *parameters], create_graph=True, materialize_grads=True)
        stepped = delta + self.inner_step * (slope - 2 * self.penalty * delta)
        vector = start = slope.detach()
        if not self.iterations:
            return [each.detach() for each in direct]
        for _ in range(self.iterations):
            (through,) = torch.autograd.grad(stepped, delta, vector, retain_graph=True)
            vector = through + start
        indirect = torch.autograd.grad(stepped, parameters, vector, materialize_grads=True)
        return [(first + second).detach() for first, second in zip(direct, indirect, strict=True)]
