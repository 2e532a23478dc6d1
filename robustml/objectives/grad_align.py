"""GradAlign: training on one-step examples, kept from collapsing by input gradients that agree with their neighbours'.

Andriushchenko and Flammarion, "Understanding and Improving Fast Adversarial Training", NeurIPS 2020, arXiv:2007.02617;
the authors' code is tml-epfl/understanding-fast-adv-training. As there, only the gradient at the random neighbour is
differentiated with respect to the weights (the gradient at the image is taken as a constant, which they found enough),
the neighbour is not clipped to [0, 1], and examples with a zero gradient are left out of the mean.

The authors run everything in train mode, and the gradient at the image is the one their FGSM uses. Here the attack has
taken its own by then, so that a step costs one more forward and input-gradient pass. With the default
`attack_mode="batch_stats"`, FGSM sees what it sees in train mode, and the running statistics move as the authors' do:
at the images, at the adversarial ones, at the neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import input_gradient, logits_of
from robustml.errors import RequestError
from robustml.modes import AttackMode
from robustml.objectives.crafting import craft
from robustml.objectives.labels import accuracy
from robustml.types import Attack, LossOutput, Threat


@dataclass(frozen=True)
class GradAlign:
    """CE(f(x_adv), y) + weight (1 - cos(grad_x L(x), grad_x L(x + eta))), eta random in the threat.

    It needs the second derivative of the model: `compile=true` cannot give it.

    Args:
        attack: crafts the examples; FGSM in the paper.
        weight: of the regulariser, >= 0 (lambda in the paper); on CIFAR-10 from 0.027 at eps 1/255 over 0.2 at 8/255 to
            2.0 at 16/255.
        attack_mode: how the model runs while examples are crafted; see `robustml.modes.attacking`.

    Raises:
        RequestError: `weight` is negative.
    """

    attack: Attack
    weight: float = 0.2
    attack_mode: AttackMode = "batch_stats"

    def __post_init__(self) -> None:
        """Refuse a weight that would reward collapse."""
        if not self.weight >= 0:
            raise RequestError(f"the weight of gradient alignment must be >= 0, got {self.weight}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples for `x` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        return craft(self.attack, model, x, y, threat, self.attack_mode)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The loss on `x` and `x_adv` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        here, _ = input_gradient(model, x, lambda logits: functional.cross_entropy(logits, y, reduction="none"))
        logits = logits_of(model, x_adv)
        neighbour = threat.sample(x, boxed=False).requires_grad_()
        loss_there = functional.cross_entropy(logits_of(model, neighbour), y, reduction="sum")
        (there,) = torch.autograd.grad(loss_there, neighbour, create_graph=True)
        alignment = _mean_cosine(here.flatten(1), there.flatten(1))
        loss = functional.cross_entropy(logits, y) + self.weight * (1 - alignment)
        logs = {"adversarial_accuracy": accuracy(logits, y), "gradient_alignment": alignment.detach()}
        return LossOutput(loss, logits, logs)


def _mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """The mean cosine, a scalar, of the rows of two matrices (N, D) that are both nonzero; 1 where there are none."""
    norms = torch.linalg.vector_norm(first, dim=1) * torch.linalg.vector_norm(second, dim=1)
    counted = norms > 0
    # The inner where keeps 0 / 0 out of the backward pass, which the outer one would not.
    cosine = (first * second).sum(1) / torch.where(counted, norms, 1.0)
    number = counted.sum()
    return torch.where(number > 0, cosine.where(counted, 0.0).sum() / number.clamp_min(1), 1.0)
