"""Free adversarial training: one backward pass gives the gradient of the weights and of the perturbation.

Shafahi et al., "Adversarial Training for Free!", NeurIPS 2019, arXiv:1904.12843, algorithm 1. Each batch is to come m
times in a row (`data.replay`), so that training has m times fewer of them. As in the authors' code
(ashafahi/free_adv_train), the perturbation has the shape of the batch, starts at zero, moves by eps along the sign of
its gradient, and is kept from batch to batch; and the gradient goes through the clipping to the image box, so that a
pixel which the perturbation pushes out of the box is not moved until another image brings it back in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.objectives.labels import accuracy
from robustml.types import LossOutput, Threat


class Free(nn.Module):
    """Train on images under a perturbation that the training steps themselves improve.

    It is a module because the perturbation is saved with checkpoints, so that a run which resumes goes on where it
    stood. With several processes each has a perturbation of its own, and the first one's is saved.

    Args:
        label_smoothing: share of the label's mass spread evenly over all classes.
        through_box: differentiate through the clipping to the box, as the authors do on photographs. On images with
            much black or white, such as digits, most pixels then get stuck outside of the box, and the attack is
            weak; False takes the gradient at the clipped image instead, as PGD does.

    Raises:
        RequestError: when called: a threat that is no L-infinity ball.
    """

    def __init__(self, label_smoothing: float = 0.0, through_box: bool = True) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.through_box = through_box
        self._delta = torch.empty(0)

    def check_threat(self, threat: Threat) -> None:
        """Refuse another threat than an L-infinity ball."""
        if getattr(threat, "norm", None) != "inf":
            raise RequestError("free adversarial training steps along the sign of a gradient; choose threat=linf")

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """The images (N, ...) under the perturbation as it is now, in the box; the model is not asked."""
        self.check_threat(threat)
        return self._moved(x, threat.eps).clamp_(*threat.bounds)

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat) -> LossOutput:
        """Cross-entropy on `x_adv` (N, ...) with labels `y`; going back through it moves the perturbation.

        Args:
            model: called once.
            x: (N, ...), the originals.
            x_adv: (N, ...), what `perturb` has just made of them.
            y: classes (N,) or distributions (N, C).
            threat: the ball.
        """
        (low, high), eps = threat.bounds, threat.eps
        moved = self._moved(x, eps)
        inside = (moved >= low) & (moved <= high)

        def ascend(gradient: Tensor) -> None:
            # Only the sign counts, so a loss may be scaled; where scaling made it overflow there is none.
            step = gradient.sign().nan_to_num_(0)
            if self.through_box:
                step *= inside
            self._delta[: len(x)] = self._delta[: len(x)] + eps * step.to(self._delta)
            self._delta.clamp_(-eps, eps)

        leaf = x_adv.detach().requires_grad_()
        leaf.register_hook(ascend)  # type: ignore[no-untyped-call]
        logits = logits_of(model, leaf)
        loss = functional.cross_entropy(logits.float(), y, label_smoothing=self.label_smoothing)
        return LossOutput(loss, logits, {"adversarial_accuracy": accuracy(logits, y)})

    def get_extra_state(self) -> Tensor:
        """The perturbation: its shape is that of the batches, which a buffer would have to know beforehand."""
        return self._delta

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from the perturbation that was saved."""
        self._delta = state.clone()

    def _moved(self, x: Tensor, eps: float) -> Tensor:
        """The images (N, ...) under the perturbation, not clipped; the first and the largest batch give its size."""
        if self._delta.shape[1:] != x.shape[1:]:
            self._delta = x.new_zeros(x.shape)
        known = self._delta.to(x)
        if len(known) < len(x):
            known = torch.cat([known, x.new_zeros(len(x) - len(known), *x.shape[1:])])
        self._delta = known
        # A schedule may have made the ball smaller since the last step.
        return x + known[: len(x)].clamp(-eps, eps)
