"""TRADES: clean cross-entropy, and the divergence of the adversarial prediction from the clean one.

Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019, arXiv:1901.08573; the
authors' code is yaodongyu/TRADES. As there, the divergence is also differentiated with respect to the clean
prediction, and clean and adversarial images pass through the model one after the other, so that each batch is
normalised by its own statistics and moves the running ones. Deviation: the authors pass the clean images a second time
for the divergence. The loss and its gradient are the same without that pass (but for dropout, whose mask is now shared
by both terms); the running statistics see the clean batch once a step where theirs see it twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks import KLPGD
from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.modes import AttackMode
from robustml.objectives.crafting import craft
from robustml.objectives.labels import accuracy
from robustml.types import Attack, LossOutput, Threat


@dataclass(frozen=True)
class TRADES:
    """CE(f(x), y) + beta KL(f(x) || f(x_adv)), both averaged over the batch.

    Args:
        attack: crafts the examples; by default the paper's, `robustml.attacks.KLPGD`.
        beta: weight of the divergence, >= 0 (1 / lambda in the paper); 6 on CIFAR-10, 1 on MNIST.
        label_smoothing: share of the label's mass spread evenly over all classes (Gowal et al. 2020, 0.1).
        attack_mode: how the model runs while examples are crafted: ``"eval"`` (the authors) or ``"batch_stats"``
            (Gowal et al. 2020); see `robustml.modes.attacking`.

    Raises:
        RequestError: `beta` is negative.
    """

    attack: Attack = field(default_factory=KLPGD)
    beta: float = 6.0
    label_smoothing: float = 0.0
    attack_mode: AttackMode = "eval"

    def __post_init__(self) -> None:
        """Refuse a weight that would reward divergence."""
        if not self.beta >= 0:
            raise RequestError(f"beta, the weight of TRADES' divergence, must be >= 0, got {self.beta}")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Adversarial examples for `x` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        return craft(self.attack, model, x, y, threat, self.attack_mode)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The loss on `x` and `x_adv` (N, ...) with labels `y` (N,) or distributions (N, C)."""
        clean, adversarial = logits_of(model, x), logits_of(model, x_adv)
        natural = functional.cross_entropy(clean, y, label_smoothing=self.label_smoothing)
        logs = {"clean_accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
        return LossOutput(natural + self.beta * divergence(clean, adversarial), adversarial, logs)


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(clean || adversarial) of two batches of logits (N, C), averaged over the batch: a scalar."""
    return functional.kl_div(adversarial.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
