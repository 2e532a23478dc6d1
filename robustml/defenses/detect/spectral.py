"""Spectral signatures: what a trigger put into a class lies far out along the direction in which the class varies most.

Tran, Li, Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018, arXiv:1811.00636, algorithm 1. The features of
each class are *centred*; the score is the squared projection on their first right singular vector; 1.5 times as many
records are flagged as may be poisoned.

Deviations: the paper removes 1.5 times the rate from every class, and this as many of the highest scores of all
classes, since nobody knows which class is poisoned. The layer is by default the last one with feature maps, in which a
mark is still a place. Something is `found` where far more of a class is flagged than of its clean records, projected on
the same direction (`concentration`); without clean records nothing is, for a share is flagged of every set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, nn

from robustml.defenses.detect.concentration import concentrations, told
from robustml.defenses.reading import read_maps, require_classes
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number
from robustml.progress import track
from robustml.types import Labelled, Suspicion

_MARGIN = 1.5


@dataclass(frozen=True)
class SpectralSignatures:
    """Squared projections on the first singular vector of the record's class.

    Args:
        rate: the share of the whole set that may be poisoned; 1.5 times as many records are flagged.
        layer: whose features are read; None is the last one with feature maps (`read_maps`).

    Raises:
        RequestError: a rate that leaves nothing over.
    """

    rate: float = 0.05
    layer: str | None = None

    def __post_init__(self) -> None:
        expected = "is the share of the set that may be poisoned, in (0, 2/3)"
        check_number(self.rate, "spectral.rate", expected, 0, 0.66, above=True)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """A score for each of `records` (N, ...).

        Raises:
            RequestError: no such layer, or too few records.
        """
        require_classes(model, records)
        if len(records.y) < 2:
            raise RequestError("spectral signatures need 2 records at least: give them more")
        maps, layer = read_maps(model, records.x, self.layer)
        features = maps.flatten(1).double()
        theirs = None if clean is None else read_maps(model, clean.x, self.layer)[0].flatten(1).double()
        scores = torch.zeros(len(records.y), dtype=torch.float64)
        clean_scores = torch.zeros(0 if clean is None else len(clean.y), dtype=torch.float64)
        for label in track(torch.unique(records.y).tolist(), "classes"):
            own = records.y == label
            middle = features[own].mean(0)
            centred = features[own] - middle
            direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
            scores[own] = (centred @ direction) ** 2
            if clean is not None and theirs is not None:
                clean_scores[clean.y == label] = ((theirs[clean.y == label] - middle) @ direction) ** 2
        kept = len(scores) - min(len(scores) - 1, round(_MARGIN * self.rate * len(scores)))
        threshold = float(scores.sort().values[kept - 1])
        classes = (
            [] if clean is None else concentrations(scores > threshold, records.y, clean_scores > threshold, clean.y)
        )
        return Suspicion(scores, threshold, records.ids, bool(classes), told(classes) | {"layer": layer})
