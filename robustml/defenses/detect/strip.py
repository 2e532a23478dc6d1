"""STRIP: a picture whose prediction stays sure whatever is laid over it carries a trigger.

Gao, Xu, Wang, Chen, Ranasinghe, Nepal, "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019,
arXiv:1902.06531. The entropy over the *classes* of each superposition's prediction, averaged over the superpositions
(equations 3 to 5); the threshold is the 1% quantile of a normal distribution fitted to clean pictures (section 4.3).

Deviations: every picture is laid under the same clean ones, drawn once, so that its score does not depend on its row;
the threshold is fitted to clean pictures that were not drawn. The paper says of one input whether it is triggered, and
not whether a set is poisoned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.reading import read_logits, require_classes, require_clean, require_pictures
from robustml.poisoning.checks import check_number, check_whole
from robustml.poisoning.pixels import in_unit_range
from robustml.progress import track
from robustml.types import Labelled, Suspicion

_LEAST = 20


@dataclass(frozen=True)
class STRIP:
    """The entropy of predictions under superposition; the lower, the more suspect. Scores are its negative, in nats.

    Args:
        overlays: how many clean pictures are laid over each record (N in the paper).
        rate: of clean pictures that the threshold rejects (the paper's false rejection rate).

    Raises:
        RequestError: an option out of range.
    """

    overlays: int = 32
    rate: float = 0.01

    def __post_init__(self) -> None:
        check_whole(self.overlays, "strip.overlays", "is how many pictures are laid over each, at least 1", 1)
        check_number(self.rate, "strip.rate", "is the share of clean pictures that is rejected, in (0, 1)", 0, 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """A score for each of the pictures `records` (N, C, H, W).

        Raises:
            RequestError: no pictures, or too few clean ones to draw from and to fit a threshold to.
        """
        require_pictures(records, "STRIP")
        require_classes(model, records)
        clean = require_clean(clean, "STRIP", self.overlays + _LEAST)
        drawn = torch.randperm(len(clean.y), generator=generator)
        over, other = clean.x[drawn[: self.overlays]], clean.x[drawn[self.overlays :]]
        fitted = -_entropies(model, other, over)
        threshold = fitted.mean() + fitted.std() * torch.special.ndtri(torch.tensor(1 - self.rate))
        scores = -_entropies(model, records.x, over)
        return Suspicion(scores, float(threshold), records.ids)


def _entropies(model: nn.Module, x: Tensor, over: Tensor) -> Tensor:
    """The mean entropy (N,) of predictions for pictures (N, C, H, W), each laid under all of `over` (K, C, H, W)."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for one in track(in_unit_range(over), "superpositions"):
        logs = read_logits(model, in_unit_range(x).add_(one).clamp_(0, 1)).double().log_softmax(1)
        total -= (logs.exp() * logs).sum(1)
    return total / len(over)
