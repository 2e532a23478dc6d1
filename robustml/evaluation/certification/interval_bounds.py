"""Certification by interval bounds: an image is certified where no logit can overtake that of its class.

Gowal et al. 2018, arXiv:1810.12715; the bounds are `robustml.models.interval_bounds`. They are loose, and of use only
for networks that were trained on them (`robustml.objectives.IntervalBound`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.evaluation.certification.certificates import Certificates
from robustml.models.interval_bounds import Interval, margin_bounds
from robustml.modes import evaluating

# What `LpBall.contains` forgives an attack; a certificate must hold for such images too.
_SLACK = 1e-6
# A margin must exceed what float32 rounds away, as a share of the largest logit.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class IntervalBoundPropagation:
    """Certify a model, in eval mode, within L-infinity balls cut by the image box."""

    name: ClassVar[str] = "ibp"
    norm: ClassVar[str] = "inf"
    error_rate: ClassVar[float] = 0.0

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        radii: Sequence[float],
        bounds: tuple[float, float] = (0.0, 1.0),
        generators: Sequence[Generator] = (),
    ) -> Certificates:
        """The largest of `radii` for which each example is certified to keep its label.

        Args:
            model: images (N, ...) to logits (N, C); handed back as found.
            x: (N, ...) in `bounds`.
            y: labels (N,); an example that is classified as another has no certificate.
            radii: in the unit of the images.
            bounds: smallest and largest value that an image may hold.
            generators: not drawn from.

        Raises:
            RequestError: the model has an operation that cannot be bounded.
        """
        radius = torch.full((len(x),), -1.0, dtype=torch.float64, device=x.device)
        for eps in sorted(radii):
            radius[self.certified(model, x, y, eps, bounds)] = eps
        return Certificates(self.predict(model, x, generators), radius)

    def certified(
        self, model: nn.Module, x: Tensor, y: Tensor, eps: float, bounds: tuple[float, float] = (0.0, 1.0)
    ) -> Tensor:
        """Which images (N, ...) are classified as `y` (N,) together with all within `eps` of them: bool (N,)."""
        low, high = bounds
        box = Interval((x - eps).clamp_min(low) - _SLACK, (x + eps).clamp_max(high) + _SLACK)
        with evaluating(model), torch.no_grad():
            scale = logits_of(model, x).abs().amax(1).clamp_min(1.0)
            margins = margin_bounds(model, box, y).scatter(1, y.unsqueeze(1), torch.inf)
        return margins.amin(1) > _ROUNDING * scale

    def attackable(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def predict(self, model: nn.Module, x: Tensor, generators: Sequence[Generator] = ()) -> Tensor:
        """The class (N,) of images `x` (N, ...); nothing is drawn."""
        with evaluating(model), torch.no_grad():
            return logits_of(model, x).argmax(1)
