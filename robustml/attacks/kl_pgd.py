"""PGD on the divergence from the clean prediction: the attack that TRADES trains with.

Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019, arXiv:1901.08573; the
authors' code is yaodongyu/TRADES. As there, the start is a little Gaussian noise, neither projected nor clipped before
the first gradient. Deviations: the clean prediction is computed once (in eval mode it is the same in every step), any
norm of the threat, whose projection is exact (the authors' L2 attack projects onto the box and then onto the ball),
and where the gradient of an example is zero, it stays where it is instead of moving at random.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import crafting, input_gradient, logits_of
from robustml.attacks.engine.setup import noisy_start, require_counts, step_length
from robustml.errors import RequestError
from robustml.types import Threat


@dataclass(frozen=True)
class KLPGD:
    """Projected gradient ascent on KL(f(x) || f(x_adv)). It does not look at labels.

    Args:
        steps: gradient steps.
        step_size: length of a step, in the unit of eps; or
        relative_step_size: the same as a multiple of eps. 2.5 / steps if neither is given: for 10 steps within 8/255
            that is 2/255.
        start_noise: standard deviation of the start around the original, where the divergence has no gradient.

    Raises:
        RequestError: fewer than 1 step, noise that is not positive, or both kinds of step size.
    """

    steps: int = 10
    step_size: float | None = None
    relative_step_size: float | None = None
    start_noise: float = 0.001

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        require_counts(self, "steps")
        if not self.start_noise > 0:
            raise RequestError(
                f"KLPGD needs start_noise > 0, got {self.start_noise}: at the original the divergence has no gradient"
            )
        step_length(1.0, self.step_size, self.relative_step_size, default=1.0)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...); `y` is ignored."""
        step_size = step_length(threat.eps, self.step_size, self.relative_step_size, default=2.5 / self.steps)
        with crafting(model, x) as (x,):
            clean = logits_of(model, x).log_softmax(1)

            def divergence(logits: Tensor) -> Tensor:
                return functional.kl_div(logits.log_softmax(1), clean, reduction="none", log_target=True).sum(1)

            x_adv = noisy_start(x, self.start_noise, generator)
            for _ in range(self.steps):
                gradient, _ = input_gradient(model, x_adv, divergence)
                x_adv = threat.project(threat.ascend(x_adv, gradient, step_size), x)
        return x_adv
