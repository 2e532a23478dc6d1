"""Training on interval bounds: cross-entropy of the worst logits that the bounds allow.

Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", 2018,
arXiv:1810.12715, equation 12 and section 4: kappa l(z, y) + (1 - kappa) l(z_worst, y), where eps rises linearly from 0
and kappa falls from 1 while training goes on. Without that rise most networks end up with equal logits everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.models.interval_bounds import Interval, margin_bounds
from robustml.types import LossOutput, Threat


class IntervalBound(nn.Module):
    """Train on the clean images and on bounds over the whole L-infinity ball around them.

    The clean logits are those of the model as training has it; the bounds are of the model in eval mode, which is
    what will be certified.

    It is a module, and not the dataclass that other objectives are, because it counts the steps, one each time that
    `perturb` is called, in a buffer: the module that trains saves it with its checkpoints, and a run that resumes goes
    on where it stood. Inside another objective it would not be saved.

    Args:
        kappa: weight of the clean loss in the end, 0 to 1; the worst-case loss has the rest.
        warmup_steps: steps at eps 0 and kappa 1; 2,000 of 60,000 in the paper, on MNIST.
        ramp_steps: steps from there to the eps of the threat and to `kappa`; 10,000 in the paper. 0 is at once.

    Raises:
        RequestError: `kappa` outside [0, 1], or negative steps; when called: a threat that is no L-infinity ball.
    """

    step: Tensor

    def __init__(self, kappa: float = 0.5, warmup_steps: int = 0, ramp_steps: int = 0) -> None:
        super().__init__()
        if not 0 <= kappa <= 1:
            raise RequestError(f"kappa is the weight of the clean loss, expected 0 to 1, got {kappa}")
        if warmup_steps < 0 or ramp_steps < 0:
            raise RequestError(f"expected warmup_steps and ramp_steps >= 0, got {warmup_steps} and {ramp_steps}")
        self.kappa = kappa
        self.warmup_steps = warmup_steps
        self.ramp_steps = ramp_steps
        self.register_buffer("step", torch.tensor(0))

    def check_threat(self, threat: Threat) -> None:
        """Refuse another threat than an L-infinity ball."""
        if getattr(threat, "norm", None) != "inf":
            raise RequestError("interval bounds hold for L-infinity balls; choose threat=linf")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """The clean images themselves, for bounds take the place of examples; counts the step."""
        self.check_threat(threat)
        self.step += 1
        return x

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """The weighted cross-entropy on `x` (N, ...) and on the bounds around it, with labels `y` (N,)."""
        # A tensor, so that no step waits for an accelerator.
        risen = ((self.step.to(x.device) - self.warmup_steps) / max(self.ramp_steps, 1)).clamp(0, 1)
        eps, kappa = risen * threat.eps, 1 - risen * (1 - self.kappa)
        low, high = threat.bounds
        logits = logits_of(model, x)
        margins = margin_bounds(model, Interval((x - eps).clamp_min(low), (x + eps).clamp_max(high)), y).float()
        clean, worst = functional.cross_entropy(logits.float(), y), functional.cross_entropy(-margins, y)
        certified = margins.detach().scatter(1, y.unsqueeze(1), 1.0).amin(1) > 0
        logs = {
            "clean_accuracy": (logits.detach().argmax(1) == y).float().mean(),
            "certified_accuracy": certified.float().mean(),
            "eps": eps,
        }
        return LossOutput(kappa * clean + (1 - kappa) * worst, logits, logs)
