"""Beatrix: how the features of a triggered input go together is not how those of its class do.

Ma, Wang, Sun, Xue, Wen, Xiang, "The 'Beatrix' Resurrections: Robust Backdoor Detection via Gram Matrices", NDSS 2023,
arXiv:2209.11715, section 4. Gram matrices of the p-th powers of the feature maps, for p = 1 to `orders`, p-th roots
taken; for each entry, how far it is outside of the median of clean records of the class (as the model predicts it) plus
or minus `width` times their median absolute deviation, in units of that bound; the sum over entries and orders.

Deviations: the threshold is the 1 - `rate` quantile of the deviations of clean records from bounds of other clean
records (five parts in turn), since few are enough then. Whether something is `found` is not asked of the
distributions of a class's features by kernel mean discrepancies, as the paper does, but of the share that is flagged
(`concentration`). A record whose predicted class has fewer than three clean records is scored by the bounds of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.detect.concentration import concentrations, told
from robustml.defenses.reading import read_logits, read_maps, require_classes, require_clean
from robustml.poisoning.checks import check_number, check_whole
from robustml.progress import track
from robustml.types import Labelled, Suspicion

_PARTS, _LEAST, _CHUNK = 5, 3, 2**24


@dataclass(frozen=True)
class Beatrix:
    """Deviations of Gram matrices from those of clean records of the predicted class.

    Args:
        layer: whose maps are read; None is the last one with maps (`read_maps`).
        orders: powers 1 to this (P in the paper).
        width: of the bounds, in median absolute deviations (k).
        rate: of clean records that the threshold rejects.

    Raises:
        RequestError: an option out of range.
    """

    layer: str | None = None
    orders: int = 8
    width: float = 10.0
    rate: float = 0.05

    def __post_init__(self) -> None:
        check_whole(self.orders, "beatrix.orders", "is the highest power, 1 to 16", 1, 16)
        check_number(self.width, "beatrix.width", "is in median deviations, above 0", 0, above=True)
        check_number(self.rate, "beatrix.rate", "is the share of clean records that is rejected, in (0, 1)", 0, 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """A score for each of `records` (N, ...).

        Raises:
            RequestError: no such layer, or too few clean records.
        """
        classes = require_classes(model, records)
        clean = require_clean(clean, "Beatrix", _LEAST * classes)
        maps, layer = read_maps(model, records.x, self.layer)
        known, _ = read_maps(model, clean.x, self.layer)
        of_maps, of_known = (read_logits(model, part.x).argmax(1) for part in (records, clean))
        part = torch.arange(len(known)) % _PARTS
        scores = torch.zeros(len(maps), dtype=torch.float64)
        held_out = torch.zeros(len(known), dtype=torch.float64)
        for label in track(range(classes), "classes"):
            own, rows = (of_maps == label).nonzero().flatten(), (of_known == label).nonzero().flatten()
            fitting = rows if len(rows) >= _LEAST else torch.arange(len(known))
            if not len(own) and not len(rows):
                continue
            for order in range(1, self.orders + 1):
                grams = _gram(known[fitting], order)
                bounds = self._bounds(grams)
                for few in torch.split(own, max(1, _CHUNK // grams.shape[1])):
                    scores[few] += _outside(_gram(maps[few], order), bounds)
                for turn in range(_PARTS):
                    out, rest = rows[part[rows] == turn], part[fitting] != turn
                    if len(out) and rest.any():
                        held_out[out] += _outside(grams[torch.isin(fitting, out)], self._bounds(grams[rest]))
        threshold = float(held_out.quantile(1 - self.rate))
        found = concentrations(scores > threshold, records.y, held_out > threshold, clean.y)
        return Suspicion(scores, threshold, records.ids, bool(found), told(found) | {"layer": layer})

    def _bounds(self, grams: Tensor) -> tuple[Tensor, Tensor]:
        """What entries (N, E) lie between, each (E,)."""
        middle = grams.median(0).values
        reach = self.width * (grams - middle).abs().median(0).values
        return middle - reach, middle + reach


def _gram(maps: Tensor, order: int) -> Tensor:
    """The entries (N, E) on and above the diagonal of the Gram matrices of maps (N, C, P) to a power, rooted again."""
    powers = maps.double() ** order
    products = powers @ powers.transpose(1, 2)
    rows, columns = torch.triu_indices(maps.shape[1], maps.shape[1])
    entries = products[:, rows, columns]
    return entries.sign() * entries.abs() ** (1 / order)


def _outside(entries: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
    """How far entries (N, E) are outside of their bounds, in units of those, summed: (N,)."""
    low, high = bounds
    under, over = (low - entries).clamp(min=0), (entries - high).clamp(min=0)
    return (under / low.abs().clamp(min=1e-6) + over / high.abs().clamp(min=1e-6)).sum(1)
