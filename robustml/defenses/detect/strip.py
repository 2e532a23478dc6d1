"""STRIP: a picture whose prediction stays sure whatever is laid over it carries a trigger.

Gao, Xu, Wang, Chen, Ranasinghe, Nepal, "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019,
arXiv:1902.06531. The entropy over the *classes* of each superposition's prediction, averaged over the superpositions
(equations 3 to 5); the threshold is the 1% quantile of a normal distribution fitted to clean pictures (section 4.3).

Deviations: every picture is laid under the same clean ones, drawn once, so that its score does not depend on its row.
The paper says of one input whether it is triggered, and not whether a set is poisoned: something is `found` where the
flagged records of a class are far more than the flagged clean ones (`concentration`). Pictures are added and clipped:
their mean hides a mark (BadNets on digits: AUROC .85, and 1.00 where they are added).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.detect.concentration import concentrations, told
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
        check_whole(self.overlays, "strip.overlays", "is how many pictures are laid over each, at least 2", 2)
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
        over = drawn[: self.overlays]
        known = -_entropies(model, clean.x, clean.x[over])
        known[over, torch.arange(len(over))] = 0  # not of a picture that is laid over itself
        fitted = known.sum(1) / (len(over) - torch.isin(torch.arange(len(known)), over).double())
        threshold = float(fitted.mean() + fitted.std() * torch.special.ndtri(torch.tensor(1 - self.rate)))
        scores = -_entropies(model, records.x, clean.x[over]).mean(1)
        classes = concentrations(scores > threshold, records.y, fitted > threshold, clean.y)
        return Suspicion(scores, threshold, records.ids, bool(classes), told(classes))


def _entropies(model: nn.Module, x: Tensor, over: Tensor) -> Tensor:
    """Entropies (N, K) of the predictions for pictures (N, C, H, W), each laid under each of `over` (K, C, H, W)."""
    entropies = torch.empty(len(x), len(over), dtype=torch.float64)
    for column, one in enumerate(track(in_unit_range(over), "superpositions")):
        logs = read_logits(model, in_unit_range(x).add_(one).clamp_(0, 1)).double().log_softmax(1)
        entropies[:, column] = -(logs.exp() * logs).sum(1)
    return entropies
