"""SCALE-UP: a triggered picture keeps its class when its pixels are multiplied, a clean one loses it.

Guo, Li, Chen, Guo, Sun, Liu, "SCALE-UP: An Efficient Black-box Input-level Backdoor Detection via Analyzing Scaled
Prediction Consistency", ICLR 2023, arXiv:2302.03251. The share of the scaled pictures, clipped to [0, 1], that get the
class of the picture as it is (equation 1); with clean pictures, less the mean of their shares in that class, over the
standard deviation (section 4.3).

Deviations: that standardising is left out by default. It takes away what it should show where the attacker aims at the
class that bright pictures are taken for, as the aeroplanes of CIFAR-10 are: AUROC .43 in place of .78 for BadNets, .65
in place of .92 for Blended (5,000 pictures, BatchNormCNN). Shares of only a few values have no deviation in some
classes: 0.1 is added to it, and the threshold is then the 1 - `rate` quantile of clean scores; else it is the paper's
0.5. Something is `found` where far more of a class is flagged than of its clean pictures (`concentration`); nothing is,
where no clean ones are given. Where scaling changes little, as with white on black (digits), the method says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.detect.concentration import concentrations, told
from robustml.defenses.reading import read_logits, require_classes, require_clean, require_pictures
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number
from robustml.poisoning.pixels import in_unit_range
from robustml.progress import track
from robustml.types import Labelled, Suspicion

_SOFT = 0.1
_PAPERS = 0.5


@dataclass(frozen=True)
class ScaleUp:
    """Scaled prediction consistency, in [0, 1], or in deviations of the clean pictures of the predicted class.

    Args:
        scales: what pixels are multiplied by.
        standardise: by the predicted class, which needs clean pictures.
        rate: of clean pictures that the threshold rejects, where scores are standardised.

    Raises:
        RequestError: no scales, one that is not above 1, or a rate out of range.
    """

    scales: tuple[float, ...] = (3, 5, 7, 9, 11)
    standardise: bool = False
    rate: float = 0.05

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 1:
            raise RequestError(f"scale_up.scales are numbers above 1, got {list(self.scales)}")
        check_number(self.rate, "scale_up.rate", "is the share of clean pictures that is rejected, in (0, 1)", 0, 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """A score for each of the pictures `records` (N, C, H, W).

        Raises:
            RequestError: no pictures, or no clean ones to standardise by.
        """
        require_pictures(records, "SCALE-UP")
        require_classes(model, records)
        kept, labels = self._consistency(model, records.x)
        if self.standardise:
            clean = require_clean(clean, "SCALE-UP with standardise=true", 2)
        if clean is None:
            return Suspicion(kept, _PAPERS, records.ids, False)
        clean_kept, clean_labels = self._consistency(model, clean.x)
        if not self.standardise:
            classes = concentrations(kept > _PAPERS, records.y, clean_kept > _PAPERS, clean.y)
            return Suspicion(kept, _PAPERS, records.ids, bool(classes), told(classes))
        scores, usual = kept.clone(), clean_kept.clone()
        for label in torch.unique(torch.cat([labels, clean_labels])).tolist():
            own = clean_kept[clean_labels == label]
            own = own if len(own) > 1 else clean_kept
            spread = own.std(unbiased=False) + _SOFT
            scores[labels == label] = (kept[labels == label] - own.mean()) / spread
            usual[clean_labels == label] = (clean_kept[clean_labels == label] - own.mean()) / spread
        threshold = float(usual.quantile(1 - self.rate))
        classes = concentrations(scores > threshold, records.y, usual > threshold, clean.y)
        return Suspicion(scores, threshold, records.ids, bool(classes), told(classes))

    def _consistency(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which share of the scaled pictures keeps the class (N,), and that class (N,)."""
        labels = read_logits(model, x).argmax(1)
        kept = torch.zeros(len(x), dtype=torch.float64)
        for scale in track(self.scales, "scales"):
            kept += read_logits(model, in_unit_range(x).mul_(scale).clamp_(0, 1)).argmax(1) == labels
        return kept / len(self.scales), labels
