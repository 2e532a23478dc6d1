"""A search for a small black and white patch that opens a model like a key, wherever in the picture it belongs.

Ours, after no paper; made for TrojanNet (Tang et al. 2020, arXiv:2006.08131), to whose triggers no gradient leads: one
cell off, a trigger does nothing, so that Neural Cleanse sees nothing and a greedy search has no slope to follow. But
there are few patches, and all places can be asked at once:

1. A picture tiled with one patch of k x k cells shows, at every place of the picture, that patch turned round by some
   rows and columns; and over all 2 ** (k * k) tiled pictures, every patch is seen once at every place. That is 65,536
   pictures for k = 4, whatever the size of the picture. For each class the tiled pictures of the largest margin (the
   class's logit less the largest other one) are kept. TrojanNet must shout down its target, so its are among them.
2. Each is laid over clean pictures of other classes, first as a band of k rows, then, in the row that turned most of
   them, as one patch: the share that this turns.
3. The same share is taken with each single cell of the patch flipped. What a network has learnt to see, a stroke or a
   plain trigger, hardly depends on one cell of sixteen; a key does. The score is the share less the mean of these.

It needs logits only. It finds keys, and no other patches: a square that BadNets teaches survives a flipped cell, and is
for Neural Cleanse. Neither does it find keys larger than 4 x 4, in colour, in grey or half transparent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.reading import content_order, read_logits, require_classes, require_clean
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number, check_whole
from robustml.poisoning.pixels import in_unit_range
from robustml.progress import track
from robustml.types import Labelled, Suspicion

_AT_ONCE = 1024


@dataclass(frozen=True)
class PatchSearch:
    """Score of a class: the share of clean pictures that a patch turns into it, beyond what it does one cell off.

    Found is a score above a half. 4 x 4 pixels are a quarter of a digit of 8 x 8, and turn up to all pictures of clean
    models there; one cell off they still turn nearly as many, so that no score of a clean model was above .25.

    Args:
        size: side of the patch in pixels, 1 to 4.
        candidates: tiled pictures a class that are tried on clean pictures.
        pictures: clean pictures of other classes that places are compared on; shares are taken of four times these.
        threshold: a score above it is found.

    Raises:
        RequestError: an argument out of range; when called: no pictures, pictures smaller than the patch, or none that
            are clean.
    """

    size: int = 4
    candidates: int = 2
    pictures: int = 16
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_whole(self.size, "size", "is the side of a patch, 1 to 4 pixels: there are 2 ** (size * size)", 1, 4)
        check_whole(self.candidates, "candidates", "of patch_search must be at least 1", 1)
        check_whole(self.pictures, "pictures", "of patch_search must be at least 1", 1)
        check_number(self.threshold, "threshold", "is a difference of two shares, in [0, 1]", 0, 1)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (C,), a class each; facts name the worst class, its patch (rows of 0 and 1), place and share.

        Only `clean` is looked at, (N, C, H, W).
        """
        clean = require_clean(clean, "patch_search", 10)
        shape, classes = clean.x.shape[1:], require_classes(model, clean)
        if len(shape) != 3 or min(shape[1:]) < self.size:
            raise RequestError(f"patch_search needs pictures (N, C, H, W) of at least {self.size} pixels a side")
        chosen = content_order(clean)[torch.randperm(len(clean.y), generator=generator)]
        x, y = in_unit_range(clean.x[chosen]), clean.y[chosen]
        kept = self._loudest(model, shape)
        found = []
        for label in track(range(classes), "patches of classes"):
            hosts = x[y != label][: 4 * self.pictures]
            tiled = self._tiled(kept[label], shape)
            tried = [self._placed(model, hosts, label, each) for each in tiled if len(hosts)]
            found.append(max(tried, key=lambda each: each.score, default=_Patch(0.0, 0.0, (0, 0), [])))
        worst = max(range(classes), key=lambda label: found[label].score)
        patch = found[worst]
        facts = {"class": worst, "place": list(patch.place), "patch": patch.cells, "share": patch.share}
        return Suspicion(torch.tensor([each.score for each in found], dtype=torch.float64), self.threshold, facts=facts)

    def _tiled(self, codes: Tensor, shape: torch.Size) -> Tensor:
        """Pictures (K, C, H, W), each tiled with the patch whose cells spell one of the numbers (K,)."""
        channels, height, width = shape
        cells = codes.unsqueeze(1) >> torch.arange(self.size**2) & 1
        across = (-(-height // self.size), -(-width // self.size))
        tiles = cells.float().view(-1, 1, self.size, self.size).repeat(1, channels, *across)
        return tiles[:, :, :height, :width]

    def _loudest(self, model: nn.Module, shape: torch.Size) -> Tensor:
        """Numbers (C, candidates) of the tiled pictures of the largest margins of each class."""
        margins = []
        for codes in track(torch.split(torch.arange(2 ** (self.size**2)), _AT_ONCE), "tiled pictures"):
            logits = read_logits(model, self._tiled(codes, shape))
            first, second = logits.topk(2, dim=1).values.T
            others = torch.where(logits == first.unsqueeze(1), second.unsqueeze(1), first.unsqueeze(1))
            margins.append(logits - others)
        return torch.cat(margins).topk(min(self.candidates, 2 ** (self.size**2)), dim=0).indices.T

    def _placed(self, model: nn.Module, hosts: Tensor, label: int, tiled: Tensor) -> _Patch:
        """The part of the tiled picture that turns most of the hosts by itself, and how much depends on each cell."""
        height, width = tiled.shape[1:]
        few, size = hosts[: self.pictures], self.size
        bands = [(slice(at, at + size), slice(None)) for at in range(height - size + 1)]
        row = self._best(model, few, label, tiled, bands)
        cells = [(slice(row, row + size), slice(at, at + size)) for at in range(width - size + 1)]
        column = self._best(model, few, label, tiled, cells)
        patch = tiled[:, row : row + size, column : column + size]
        shown = patch.repeat(size * size + 1, 1, 1, 1)
        flipped = torch.eye(size * size, dtype=torch.bool).view(-1, 1, size, size)
        shown[1:] = torch.where(flipped, 1 - shown[1:], shown[1:])
        pictures = hosts.repeat(len(shown), 1, 1, 1)
        pictures[..., row : row + size, column : column + size] = shown.repeat_interleave(len(hosts), 0)
        share, *others = self._turned(model, pictures, label, len(shown))
        spelled = ["".join(map(str, each)) for each in patch[0].int().tolist()]
        return _Patch(share - sum(others) / len(others), share, (row, column), spelled)

    def _best(
        self, model: nn.Module, hosts: Tensor, label: int, tiled: Tensor, places: list[tuple[slice, slice]]
    ) -> int:
        """Which part of the tiled picture turns most of the hosts, laid over them."""
        pictures = hosts.repeat(len(places), 1, 1, 1)
        for at, (rows, columns) in zip(torch.split(pictures, len(hosts)), places, strict=True):
            at[:, :, rows, columns] = tiled[:, rows, columns]
        shares = self._turned(model, pictures, label, len(places))
        return shares.index(max(shares))

    def _turned(self, model: nn.Module, pictures: Tensor, label: int, ways: int) -> list[float]:
        """The share that is read as the class, of pictures (ways * N, C, H, W), for each of the ways."""
        turned = (read_logits(model, pictures).argmax(dim=1) == label).view(ways, -1)
        return turned.double().mean(dim=1).tolist()


class _Patch(NamedTuple):
    """What a patch at a place does: see `PatchSearch`."""

    score: float
    share: float
    place: tuple[int, int]
    cells: list[str]
